"""A fleet's plan and state for people, as tables."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from tidegate.verify.fleet_plan import Plan
from tidegate.verify.fleet_status import Status

_NAMED = 12
"""Poisoned answers and shards set aside that are named; --json has all."""


def plan_table(plan: Plan) -> Table:
    """What there is to do, and what was wrong with the record already."""
    table = _table()
    table.add_row("record", plan.subject.record.split("+")[0])
    table.add_row("model", f"{plan.spec.engine}:{plan.spec.name}")
    table.add_row("shards", f"{len(plan.tickets):,}")
    table.add_row("answers", f"{plan.answers:,} with {plan.tokens:,} tokens, prompts included")
    table.add_row("entries signed", f"{plan.signed:,}")
    for kind, count in plan.findings.items():
        table.add_row(Text("found", "yellow"), f"{kind} ({count}); the report names each")
    return table


def status_table(status: Status) -> Table:
    """How far it is, what is wrong, and what the backlog asks for."""
    table = _table()
    table.add_row("shards", f"{status.settled:,} of {status.shards:,} have a verdict")
    backlog = f"{status.backlog_tokens:,} tokens of {status.tokens:,}, prompts included"
    table.add_row("backlog", backlog)
    rate = status.tokens_per_worker_second
    known = "no verdict yet to reckon by" if rate is None else f"{rate:,.0f} tokens a second"
    table.add_row("a worker", known)
    drain = "" if not status.drain_seconds else f", done in {_span(status.drain_seconds)}"
    table.add_row("workers wanted", f"{status.wanted_workers}{drain}")
    for poison in status.poisoned[:_NAMED]:
        table.add_row(
            Text("poisoned", "red"), f"answer {poison.answer}: {poison.kind}: {poison.reason}"
        )
    for name, reason in list(status.aside.items())[:_NAMED]:
        table.add_row(Text("set aside", "yellow"), f"{name[:12]}: {reason}")
    if status.quarantined:
        table.add_row(Text("quarantine", "red"), f"{status.quarantined} verdicts did not open")
    for kind, count in status.findings.items():
        table.add_row(Text("found", "yellow"), f"{kind} ({count}) in the record")
    return table


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    return table
