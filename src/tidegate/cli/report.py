"""`tidegate report`: what Tidegate's own files show for standards, as OSCAL and as a page."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate import __version__
from tidegate.audit.oscal import LIMITS, Assessment, assess, to_json
from tidegate.audit.oscal_evidence import read
from tidegate.clock import SystemClock
from tidegate.disk import replace_whole

_STYLES = {"pass": "green", "fail": "bold red", "cannot_verify": "yellow"}
_STATUS = {"pass": 0, "fail": 1, "cannot_verify": 2}


def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="What these printed: `bench gate --json`, `bench verify --json`, `verify --json`, "
            "`audit --json`, `attest --json`, `log show --json`, `log verify --json`.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write OSCAL assessment results here, as JSON.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page for people here.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the OSCAL JSON instead of a table.")
    ] = False,
) -> None:
    """Evidence for RAND SL, SL5 / NIST 800-53, Anthropic ASL-3 and the EU GPAI Code.

    One finding a control: what is claimed, what was measured, what is assumed, and the hash of the
    raw file it was read from. A control without its file **cannot be verified**. Controls that no
    software can show are listed as such. Exits 0: all pass, 1: one fails, 2: one stays unknown.
    """
    evidence = [read(path.name, path.read_bytes()) for path in files or ()]
    assessment = assess(evidence, SystemClock().now(), __version__)
    if out is not None:
        replace_whole(out, to_json(assessment) + b"\n")
    if html is not None:
        replace_whole(html, page(assessment).encode())
    if as_json:
        sys.stdout.buffer.write(to_json(assessment) + b"\n")
    else:
        show(assessment, Console())
    raise typer.Exit(_STATUS[assessment.outcome])


def show(assessment: Assessment, console: Console) -> None:
    """A table of findings, then what software cannot show."""
    table = Table("control", "outcome", "claim", "measured")
    for finding in assessment.findings:
        outcome = Text(finding.outcome.replace("_", " "), style=_STYLES[finding.outcome])
        control = f"{finding.control.standard}\n{finding.control.id}"
        table.add_row(control, outcome, Text(finding.control.claim), Text(finding.value))
    console.print(table)
    console.print("Software cannot show:")
    for one in assessment.unshown:
        console.print(Text(f"  {one.standard} {one.id}: {one.title}. {one.why}"), soft_wrap=True)
    for limit in LIMITS:
        console.print(Text(limit, style="dim"), soft_wrap=True)


def page(assessment: Assessment) -> str:
    """A page that needs nothing from outside."""
    text = (resources.files("tidegate.cli") / "report.html").read_text()
    when = datetime.fromtimestamp(assessment.at, UTC)
    return (
        Environment(autoescape=True)
        .from_string(text)
        .render(
            when=f"{when:%Y-%m-%d %H:%M} UTC",
            version=assessment.version,
            counts=Counter(finding.outcome for finding in assessment.findings),
            limits=LIMITS,
            findings=assessment.findings,
            unshown=assessment.unshown,
            evidence=assessment.evidence,
        )
    )
