"""The real logs beside the checkout: what an audit finds there, and what of it is no attack's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tidegate.audit.conclude import Report, Source, conclude
from tidegate.audit.examine import Examiner
from tidegate.audit.files import examine_logs, logs_of
from tidegate.audit.findings import Finding
from tidegate.audit.models import Guarded, guarded, table_of
from tidegate.bench.figures import Figure, report
from tidegate.models.cache import Progress

LOGS: Final = Path("../shared/data/logs")

STOLEN: Final = {
    "model": [
        {
            "name": "stolen",
            "at": ["s3://mordors3stack-s3bucket-llp2yingx64a/"],
            "shards": [{"name": "ring.txt", "size": 89}],
        }
    ]
}
"""The one object that was stolen in the first set stands for a model."""

SETS: Final = {
    "cloudtrail-otrf": guarded(table_of(STOLEN)),
    "cloudtrail-invictus": Guarded(()),
    "cloudtrail-stratus": Guarded(()),
}

ATTACKERS: Final = frozenset({
    "arn:aws:iam::123456789123:role/MordorNginxStack-BankingWAFRole-9S3E0UAE1MM0",
    "arn:aws:iam::123837392027:user/bert-jan",
})  # fmt: skip
"""Who attacked, by the sets' own accounts; in the third set every file is one attack."""


HOUSEKEEPING: Final = (
    "s3://stratus-red-team-ctes-bucket-",
    "s3://stratus-red-team-ctlr-bucket-",
    "cloudtrail:DeleteTrail stratus-red-team-ctes-",
    "cloudtrail:DeleteTrail stratus-red-team-ctlr-",
    "logs:DeleteLogGroup",
)
"""What the attacker's tool of the second set did before and after, and was no attack."""


def audited(folder: Path, known: Guarded) -> Report:
    """One set, as `tidegate audit` reads it."""
    opened, unknown = logs_of([str(folder)], None)
    examiner, sources = Examiner(known, None), list[Source]()
    examine_logs(examiner, opened, unknown, sources, lambda *_: None)
    return conclude(examiner, sources)


def false(made: Report, name: str) -> list[Finding]:
    """Findings graver than notes about somebody, or something, that was no attack."""
    return [
        finding
        for finding in made.findings
        if finding.gravity != "note"
        and finding.who
        and (finding.who not in ATTACKERS or finding.about.startswith(HOUSEKEEPING))
        and name != "cloudtrail-stratus"
    ]


def real(progress: Progress) -> dict[str, Figure]:
    """Findings and false ones for each set that is there."""
    figures: dict[str, Figure] = {}
    for done, (name, known) in enumerate(SETS.items(), 1):
        folder = LOGS / name
        if folder.is_dir():
            made = audited(folder, known)
            wrong = false(made, name)
            figures[f"audit_real_findings.{name}"] = report(
                len(made.findings), unit="findings", n=made.events,
                how="; ".join(f"{f.kind} {f.who}" for f in made.findings)[:600],
            )  # fmt: skip
            figures[f"audit_real_false.{name}"] = report(
                len(wrong), unit="findings", n=made.events,
                how="of these, no attack: "
                + ("; ".join(f"{f.kind} {f.about}" for f in wrong) or "none"),
            )  # fmt: skip
        progress("audit: real logs", done, len(SETS))
    return figures
