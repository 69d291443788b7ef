"""A verification for people: a table in the terminal, and one HTML file that needs no network."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate.errors import ConfigError
from tidegate.verify.report import Leak, Report
from tidegate.verify.report_scopes import Scope, most
from tidegate.verify.sequential_monitor import PRINCIPAL, REPLICA

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = 12
"""Findings shown in the terminal; all that are kept are in the JSON and the HTML."""

_COLOURS = {"pass": "green", "fail": "bold red", "cannot_verify": "yellow"}
_TITLES = {"pass": "PASS", "fail": "FAIL", "cannot_verify": "CANNOT VERIFY"}
LEAK_PARTS = (
    ("value_bits", "which admissible token"),
    ("flagged_bits", "what tolerated deviations say"),
    ("position_bits", "which tokens deviate"),
    ("length_bits", "where unverified answers end"),
    ("choice_bits", "which draft won"),
)


def show(console: Console, report: Report) -> None:
    """Print the outcome, the counts, the bound and the first findings."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False, collapse_padding=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in rows(report):
        table.add_row(name, Text(value))
    console.print(Text(report.verified.record, style="bold"))
    console.print(table)
    if report.findings:
        _show_findings(console, report)
    outcome = report.outcome
    line = Text.assemble((_TITLES[outcome.outcome], _COLOURS[outcome.outcome]), " ", outcome.reason)
    console.print(line, soft_wrap=True)
    for limit in outcome.limits:
        console.print(Text(f"not covered: {limit}", style="dim"), soft_wrap=True)


def _show_findings(console: Console, report: Report) -> None:
    table = Table("finding", "where", "what", box=box.SIMPLE_HEAD, pad_edge=False)
    for finding in report.findings[:SHOWN]:
        style = "red" if finding.conclusive else "yellow"
        table.add_row(Text(finding.kind, style=style), finding.where(), Text(finding.reason))
    console.print(table)
    total = sum(report.kinds.values())
    if total > SHOWN:
        console.print(f"and {total - SHOWN:,} more; --json and --html show them", style="dim")


def rows(report: Report) -> list[tuple[str, str]]:
    """The figures as (name, text), for the terminal and the page."""
    verified = report.verified
    drawn = "all" if verified.rate == "1" else f"{verified.rate} by {verified.by}"
    told = [
        ("model", f"{verified.model} ({verified.numerics})"),
        ("record", f"{report.entries:,} entries, {report.signed:,} of them under a checkpoint"),
        ("answers", f"{report.responses:,} with {report.tokens:,} tokens"),
        (
            "drawn",
            f"{report.selected_responses:,} with {report.selected_tokens:,} tokens ({drawn})",
        ),
        ("re-executed", f"{report.scored_tokens:,} tokens; {report.replayed:,} answers are clean"),
    ]
    if report.match_rate is not None:
        told.append(("equal", f"{report.match_rate:.4%}, {report.mismatches:,} tokens differ"))
    if not verified.exact and report.scored_tokens:
        told.append(
            ("beyond margin", f"{report.suspicious} suspicious, {report.dangerous} dangerous")
        )
    if report.leak is not None:
        leak = report.leak
        told.append(
            ("may leak", f"{leak.bits_a_token:.4g} bits a token ({leak.share:.3%} of log2 V)")
        )
    told += _scope_rows(report.scopes)
    if report.escapes is not None:
        told.append(("escapes", f"up to {report.escapes - 1:,} deviating {verified.by}s (99%)"))
    if verified.keys:
        last = max(verified.keys)
        more = f" and {last} before it, in the JSON" if last else ""
        told.append(("drawn with", f"{verified.keys[last]} in epoch {last}{more}"))
    return told


def _scope_rows(scopes: Sequence[Scope]) -> list[tuple[str, str]]:
    told = []
    for row in scopes:
        if row.scope == REPLICA and row.bits_a_day is not None:
            days = "never" if row.days is None else f"{row.days:,.4g} days"
            rate = f"at {row.bits_a_day:,.4g} bits a day of this traffic"
            burst = f"and {row.before_alarm_bits:,.0f} bits before an alarm"
            told.append(("weights out in", f"{days}, {rate}, {burst}"))
    worst, principals = most(scopes), sum(row.scope == PRINCIPAL for row in scopes)
    if worst is not None and principals > 1:
        own = f"{worst.bits_a_token:.4g} bits a token on his own {worst.scored_tokens:,}"
        told.append(("widest client", f"{worst.name}: {own}, the most of {principals:,}"))
    return told


def require_plots() -> None:
    """Raise ConfigError before any work where the report could not be written after it."""
    if importlib.util.find_spec("plotly") is None:
        raise ConfigError("--html needs tidegate[report]")


def write_html(path: Path, report: Report) -> None:
    """Write the report to `path`. Raises OSError."""
    from plotly.offline import get_plotlyjs

    template = (files("tidegate.cli") / "verify_report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    figures = [_curve(report), _margins(report)]
    if report.leak is not None:
        figures.append(_leak(report.leak))
    page = environment.from_string(template).render(
        plotly=get_plotlyjs(),
        figures=[
            figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
            for figure in figures
        ],
        report=report,
        rows=rows(report),
        title=_TITLES[report.outcome.outcome],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _curve(report: Report) -> go.Figure:
    import plotly.graph_objects as go

    tests = bool(report.verified.profile)
    line = go.Scatter(
        x=[tokens for tokens, _ in report.curve],
        y=[value for _, value in report.curve],
        mode="lines",
        line={"color": "#0b7285"},
    )
    title = "Odds against honesty, whole fleet" if tests else "Tokens that differ, so far"
    figure = _styled(go.Figure(line), title, "log10 of the odds" if tests else "tokens")
    return figure.update_xaxes(title="tokens re-executed")


def _margins(report: Report) -> go.Figure:
    import plotly.graph_objects as go

    edges = [f"≤ {edge:g}" for edge in report.margin_edges]
    bars = go.Bar(
        x=[*edges, f"> {report.margin_edges[-1]:g}"],
        y=list(report.mismatch_margins),
        marker_color="#c98b2b",
    )
    figure = _styled(go.Figure(bars), "Tokens that differ, by margin", "tokens")
    return figure.update_xaxes(title="nats of logit below what re-execution draws")


def _leak(leak: Leak) -> go.Figure:
    import plotly.graph_objects as go

    bars = go.Bar(
        x=[getattr(leak, field) for field, _ in LEAK_PARTS],
        y=[name for _, name in LEAK_PARTS],
        orientation="h",
        marker_color="#0b7285",
    )
    figure = _styled(go.Figure(bars), "What may still hide, bits a token", "")
    return figure.update_layout(margin={"l": 220, "r": 20, "t": 50, "b": 50})


def _styled(figure: go.Figure, title: str, y_title: str) -> go.Figure:
    return figure.update_layout(
        title=title,
        yaxis_title=y_title,
        template="simple_white",
        height=380,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 14},
    )
