"""What an audit found, in the terminal and as a page with timelines."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from jinja2 import Environment
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate.audit.conclude import Report
from tidegate.audit.conclude_logs import moment
from tidegate.audit.conclude_reads import CoverageRow
from tidegate.audit.findings import Finding
from tidegate.cli import audit_plot

_STYLES: Final = {"error": "bold red", "warning": "yellow", "note": "cyan", "none": "dim"}
_MOST_FINDINGS: Final = 40
_MOST_ROWS: Final = 15
_MOST_ACCOUNTS: Final = 15
_MOST_CURVES: Final = 12


def show(report: Report, console: Console) -> None:
    """Coverage, accounts, then every finding with what to do."""
    if report.coverage:
        console.print(_coverage(report.coverage))
    if report.accounts:
        console.print(_accounts(report))
    for finding in report.findings[:_MOST_FINDINGS]:
        _show(finding, console)
    if len(report.findings) > _MOST_FINDINGS:
        console.print(f"and {len(report.findings) - _MOST_FINDINGS} more (--json lists all)")
    console.print(summary(report), soft_wrap=True)


def summary(report: Report) -> str:
    """One sentence on what was read and found."""
    counts = dict.fromkeys(("error", "warning", "note"), 0)
    for finding in report.findings:
        counts[finding.gravity] = counts.get(finding.gravity, 0) + 1
    span = (
        f", {moment(report.first)} to {moment(report.last)}"
        if report.first is not None and report.last is not None
        else ""
    )
    told = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())
    return f"{report.events:,} events of {len(report.sources)} sources{span}: {told}"


def _show(finding: Finding, console: Console) -> None:
    console.print(
        Text.assemble(
            (f"{finding.gravity} ", _STYLES[finding.gravity]),
            (f"{finding.kind}", "bold"),
            f"  {finding.text}",
        )
    )
    console.print(Text(f"  → {finding.to_do}", style="green"))
    if finding.evidence:
        told = "; ".join(str(one) for one in finding.evidence[:3])
        more = f" and {len(finding.evidence) - 3} more" if len(finding.evidence) > 3 else ""
        console.print(Text(f"  evidence: {told}{more}", style="dim"), soft_wrap=True)
    for assumption in finding.assumptions:
        console.print(Text(f"  assumes: {assumption}", style="dim"))


def _coverage(rows: Sequence[CoverageRow]) -> Table:
    table = Table(title="Coverage", title_justify="left")
    for column in ("who", "model", "under grant", "at least", "at most", "a day now", "whole in"):
        right = column in ("at least", "at most", "a day now", "whole in")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows[:_MOST_ROWS]:
        size = row.measured.model.size
        table.add_row(
            ", ".join(map(_short, row.who)),
            row.model,
            "yes" if row.granted else "no",
            _percent(row.measured.total.least / size),
            _percent(row.measured.total.most / size),
            _percent(row.rate / size),
            left(row),
            style="" if row.granted or row.measured.share() < 0.01 else "red",
        )
    if len(rows) > _MOST_ROWS:
        table.caption = f"and {len(rows) - _MOST_ROWS} more (--json lists all)"
    return table


def _short(who: str) -> str:
    """`arn:aws:iam::1:role/NAME` -> `role/NAME@1`; other names as they are."""
    parts = who.split(":", 5)
    return f"{parts[5]}@{parts[4]}" if len(parts) == 6 and parts[0] == "arn" else who


def left(row: CoverageRow) -> str:
    """Days until a model is whole, in words."""
    if row.days_left is None:
        return "never"
    return "is whole" if row.days_left <= 0 else f"{row.days_left:,.0f} d"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _accounts(report: Report) -> Table:
    table = Table(title="Grants", title_justify="left")
    for column in ("grant", "requester", "model", "shards", "approved by", "decrypts", "reads"):
        table.add_column(column, overflow="fold")
    for account in report.accounts[-_MOST_ACCOUNTS:]:
        table.add_row(
            account.grant[:8] + (" break-glass" if account.break_glass else ""),
            account.requester,
            account.model,
            str(account.shards),
            ", ".join(account.approvers),
            str(account.decrypts) if account.released is not None else "not released",
            f"{account.reads:,}",
        )
    if len(report.accounts) > _MOST_ACCOUNTS:
        table.caption = f"the last {_MOST_ACCOUNTS} of {len(report.accounts):,} (--json lists all)"
    return table


def page(report: Report) -> str:
    """A page that needs nothing from outside."""
    text = (resources.files("tidegate.cli") / "audit_report.html").read_text()
    template = Environment(autoescape=True).from_string(text)
    curves = [row for row in report.coverage if not row.granted] + [
        row for row in report.coverage if row.granted
    ]
    return template.render(
        summary=summary(report),
        curves=[_curve(row) for row in curves[:_MOST_CURVES] if row.measured.times],
        timeline=audit_plot.timeline(report.findings, report.first, report.last),
        findings=[_row(finding) for finding in report.findings],
        coverage=[_numbers(row) for row in report.coverage],
        accounts=report.accounts,
        streams=[
            (row.name, row.events, moment(row.first), moment(row.last)) for row in report.streams
        ],
        sources=report.sources,
        moment=moment,
    )


def _curve(row: CoverageRow) -> dict[str, Any]:
    measured = row.measured
    size = measured.model.size
    return {
        "title": f"{', '.join(row.who)} · {row.model}{' · under grants' if row.granted else ''}",
        "svg": audit_plot.curve(
            measured.times,
            [least / size for least in measured.least],
            [most / size for most in measured.most],
        ),
    }


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.gravity,
        "kind": finding.kind,
        "when": moment(finding.time) if finding.time else "",
        "text": finding.text,
        "to_do": finding.to_do,
        "evidence": [str(one) for one in finding.evidence],
        "assumptions": finding.assumptions,
    }


def _numbers(row: CoverageRow) -> dict[str, Any]:
    measured = row.measured
    size = measured.model.size
    return {
        "who": ", ".join(row.who),
        "ties": ", ".join(row.ties),
        "model": row.model,
        "granted": "yes" if row.granted else "no",
        "reads": row.reads,
        "least": _percent(measured.total.least / size),
        "most": _percent(measured.total.most / size),
        "windows": ", ".join(
            f"{window.days} d {_percent(window.bounds.most / size)}" for window in measured.windows
        ),
        "rate": _percent(row.rate / size),
        "left": left(row),
    }
