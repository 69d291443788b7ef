"""A verification's findings as SARIF 2.1.0 (OASIS), for code-scanning and CI dashboards.

One rule a kind of finding, one result a finding. The artifact is the record; a place in it is a
logical location, since entries have numbers and no lines.
"""

from __future__ import annotations

from typing import Final

from tidegate.record.sarif import Level, Result, Rule, log
from tidegate.verify.record_findings import Kind
from tidegate.verify.replay_findings import Found, ReplayKind
from tidegate.verify.report import Report

_RULES: Final[dict[str, tuple[str, bool]]] = {
    kind.value: (text, kind.conclusive)
    for kinds in (
        {
            Kind.CORRUPT: "A line of the record cannot be read or does not chain on",
            Kind.TRUNCATED: "The record's last line is torn",
            Kind.REORDERED: "An entry stands where another should",
            Kind.DUPLICATED: "An entry, a token's place or an answer occurs twice",
            Kind.MISSING: "Entries, a segment or tokens are missing",
            Kind.OVERSIZED: "More at once than any writer leaves",
            Kind.UNKNOWN_MODEL: "The answering model is not the expected one",
            Kind.WRONG_TOKENIZER: "The tokenizer or vocabulary is not the expected one",
            Kind.WRONG_TEMPLATE: "The chat template is not the expected one",
            Kind.UNKNOWN_LORA: "The adapter is not the expected one",
            Kind.CONTRADICTORY_SEEDS: "A seed is not the one committed to, or serves twice",
            Kind.FORGED_CHECKPOINT: "A checkpoint is malformed or not signed by the record's key",
            Kind.ALTERED: "Entries are not those of a signed checkpoint",
            Kind.ROLLBACK: "The record ends before what is known of it elsewhere",
            Kind.SPLIT_VIEW: "Two signed checkpoints contradict each other",
            Kind.UNREADABLE: "What is private of an answer cannot be opened",
            Kind.UNSIGNED: "Entries are under no checkpoint",
            Kind.UNFINISHED: "An answer has not ended",
            Kind.UNRECORDED: "The writer says that answers left unrecorded",
        },
        {
            ReplayKind.OTHER_TOKEN: "The model gives another token than was served",
            ReplayKind.OTHER_END: "The answer ends elsewhere than the finish rules say",
            ReplayKind.ALARM: "More tokens deviate than honest machines' do",
            ReplayKind.WORKER_LOST: "The replay of an answer died",
            ReplayKind.REPLAY_FAILED: "The model cannot run the answer",
            ReplayKind.NOT_FOLLOWED: "The answer was drawn from what is not in the record",
        },
    )
    for kind, text in kinds.items()
}


def sarif(report: Report, artifact: str) -> bytes:
    """The report as a SARIF log of one run. `artifact` names the record, relative or as a URI."""
    outcome = report.outcome
    cannot = outcome.outcome == "cannot_verify"
    return log(
        tool=report.tool,
        version=report.version,
        rules=[_rule(kind) for kind in sorted({finding.kind for finding in report.findings})],
        results=[_result(finding, artifact) for finding in report.findings],
        refusal=f"Cannot verify: {outcome.reason}" if cannot else None,
        artifacts=[artifact],
        properties={
            "outcome": outcome.outcome,
            "reason": outcome.reason,
            "scoredTokens": report.scored_tokens,
            "mismatches": report.mismatches,
            "findingsInAll": sum(report.kinds.values()),
        },
    )


def _level(conclusive: bool) -> Level:
    return "error" if conclusive else "warning"


def _rule(kind: str) -> Rule:
    text, conclusive = _RULES[kind]
    return Rule(id=kind, text=text, level=_level(conclusive))


def _result(finding: Found, artifact: str) -> Result:
    parts = (("entry", finding.entry), ("answer", finding.response), ("token", finding.token))
    named = [f"{name}/{value}" for name, value in parts if value is not None]
    return Result(
        rule=finding.kind,
        level=_level(finding.conclusive),
        message=finding.reason,
        artifact=artifact,
        place="/".join(named) or None,
    )
