"""`tidegate audit`: who read how much of which model, and whether a grant was for it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tidegate.cli.default_command import default_to
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.audit.event import Event
    from tidegate.audit.models import Guarded
    from tidegate.audit.sigma import Sigma

DEFAULT = "logs"
"""`tidegate audit LOGS` is `tidegate audit logs LOGS`."""

app = typer.Typer(
    cls=default_to(DEFAULT),
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Settle accounts: `tidegate audit LOGS --models FILE --grants JOURNAL`. Reads CloudTrail, "
    "S3 server access logs, Google Cloud and Azure audit logs, auditd, Kubernetes and OpenBao "
    "audit logs, adds up what each principal has read of each model, and holds it against grants. "
    "Exits 0: nothing graver than a note, 1: findings, 2: could not run. What the logs cannot say "
    "is in docs/howto/audit.md.",
)

Models = Annotated[
    Path | None,
    typer.Option("--models", exists=True, help="What is guarded (TOML; see docs/howto/audit.md)."),
]


@app.command(DEFAULT)
def logs(
    targets: Annotated[
        list[str], typer.Argument(help="Logs, plain or gzip, folders of them, or - (with --kind).")
    ],
    models: Models = None,
    grants: Annotated[
        Path | None,
        typer.Option(exists=True, help="The grants' journal: JSON lines, or the log's own file."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Read all as this kind of log.")] = None,
    sigma: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help="Sigma rules to look for too; files or folders of them."),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only events from then on (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Only events before then.")] = None,
    note_percent: Annotated[
        float, typer.Option(min=0, max=100, help="Coverage outside grants that is a finding.")
    ] = 1.0,
    skew: Annotated[float, typer.Option(min=0, help="Seconds by which clocks may differ.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    sarif: Annotated[Path | None, typer.Option(help="Also write SARIF 2.1.0.")] = None,
    ocsf: Annotated[Path | None, typer.Option(help="Also write findings as OCSF 2004.")] = None,
    events: Annotated[
        Path | None, typer.Option(help="Also write every event as OCSF 6003, one a line.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with timelines.")] = None,
) -> None:
    """Read logs once, as streams, and say what they show; memory does not grow with them."""
    from tidegate import __version__
    from tidegate.audit import files, report
    from tidegate.audit.conclude import Source, conclude
    from tidegate.audit.examine import Examiner, Settings
    from tidegate.audit.models import Guarded
    from tidegate.cli import audit_models, audit_shown
    from tidegate.cli.progress import bars

    guarded = audit_models.read_models(models) if models else Guarded(())
    sources: list[Source] = []
    journal = None
    if grants is not None:
        journal, source = files.read_grants(grants, len(sources))
        sources.append(source)
    opened, unknown = files.logs_of(targets, kind)
    settings = Settings(
        note_share=note_percent / 100,
        skew=skew,
        since=_time(since, float("-inf")),
        until=_time(until, float("inf")),
    )
    examiner = Examiner(guarded, journal, settings)
    rules = _rules(sigma) if sigma else None
    with ExitStack() as stack:
        progress = stack.enter_context(bars())
        taken = None
        if events is not None:
            from tidegate.audit.ocsf_events import line_of

            written = stack.enter_context(events.open("wb"))

            def taken(event: Event) -> None:
                written.write(line_of(event, __version__) + b"\n")

        files.examine_logs(examiner, opened, unknown, sources, progress, rules, taken)
        progress("adding up", 0, 1)
        made = conclude(examiner, sources)
        progress("adding up", 1, 1)
    if sarif is not None:
        sarif.write_bytes(report.to_sarif(made, __version__))
    if ocsf is not None:
        ocsf.write_bytes(report.to_ocsf(made, __version__))
    if html is not None:
        html.write_text(audit_shown.page(made))
    if as_json:
        sys.stdout.buffer.write(report.to_json(made) + b"\n")
    else:
        audit_shown.show(made, Console())
    raise typer.Exit(1 if made.failed else 0)


@app.command()
def rules(
    models: Annotated[Path, typer.Option("--models", exists=True, help="What is guarded (TOML).")],
    out: Annotated[Path, typer.Option(help="A folder for the rules; made if it is not there.")],
) -> None:
    """Write Sigma rules for a SIEM: what one event alone can show about the models."""
    from tidegate.cli import audit_models

    count = _write_rules(audit_models.read_models(models), out)
    typer.echo(
        f"{count} rules in {out}. Coverage, drips and accounts are not among them: they need more "
        f"than one event, so keep running `tidegate audit`"
    )


def _write_rules(guarded: Guarded, out: Path) -> int:
    from tidegate.audit.sigma_out import rules_for

    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, rule in enumerate(rules_for(guarded), 1):
        (out / f"{count:03d}-{rule['id'][:8]}.yml").write_text(
            _yaml().safe_dump(rule, sort_keys=False)
        )
    return count


def _rules(paths: list[Path]) -> Sigma:
    """Raises ConfigError for a rule that is not understood in full."""
    from tidegate.audit.sigma import Sigma, rule_of

    yaml = _yaml()
    found = []
    for path in paths:
        files = sorted(path.rglob("*.y*ml")) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{path}: no rules in it (*.yml, *.yaml)")
        for file in files:
            try:
                documents = list(yaml.safe_load_all(file.read_text()))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise ConfigError(f"{file} is no YAML: {error}") from error
            found += [rule_of(told, str(file)) for told in documents]
    return Sigma(found)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigError("Sigma rules are YAML: pip install 'tidegate[vault]'") from error
    return yaml


def _time(text: str | None, otherwise: float) -> float:
    if text is None:
        return otherwise
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no ISO 8601 time such as 2026-03-01T12:00:00Z") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
