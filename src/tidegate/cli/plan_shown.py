"""The planner's answer in the terminal."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate.cli.plan_text import bits, days, number, share
from tidegate.plan import model
from tidegate.plan.answer import Answer, CapFor, Compared, Spread, Strategy, Swing

_BAR = 6
"""Characters of half a tornado."""
_SWINGS = 10


def show(console: Console, answer: Answer, *, values: bool) -> None:
    """Print the answer, the strategies and what moves it; with `values`, all that went in."""
    console.print(Text(answer.title, style="bold"))
    if answer.about:
        console.print(Text(" ".join(answer.about.split()), style="dim"))
    _rows(console, _told(answer))
    console.print(_strategies(answer))
    if answer.swings:
        console.print(_tornado(answer))
    if values:
        console.print(_values(answer))
    _provenance(console, answer, values)


def compare(console: Console, told: Compared) -> None:
    """Print both answers beside each other."""
    table = Table("", "A", "B", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.columns[0].no_wrap = True
    rows_b = dict(_told(told.b))
    for name, text in (("scenario", told.a.title), *_told(told.a)):
        table.add_row(name, text, told.b.title if name == "scenario" else rows_b.get(name, ""))
    console.print(table)
    console.print(
        f"B over A, on the same draws: {number(told.ratio.p50)} times as many days "
        f"({number(told.ratio.p5)} to {number(told.ratio.p95)}); "
        f"B lasts longer in {told.b_later:.1%} of lifetimes",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"they differ in {', '.join(told.differs) or 'nothing'}", soft_wrap=True)


def _told(answer: Answer) -> list[tuple[str, str]]:
    at = answer.point
    rows = [
        ("days to exfiltrate", f"{_spread(answer.days)}; {days(at.days)} at the values themselves"),
        ("never", f"in {answer.never:.1%} of lifetimes") if answer.never else None,
        ("out within its life", f"in {answer.within_life:.1%} of lifetimes"),
        ("copies leaked in its life", _numbers(answer.copies)),
        ("what binds", _shares(answer.binds)),
        ("his best strategy", _shares(answer.strategies_won)),
        ("his best duty cycle", _duty(answer)),
        ("weights, as he packs them", bits(at.loot_bits).removesuffix("/day")),
        ("honest use today", f"{bits(at.honest_bits_a_day)}, cap {bits(at.cap_bits_a_day)}"),
        ("drawn with 99% after", _audited(at.audited_before_99)),
        *((f"for {days(row.days)}", _cap(row)) for row in answer.caps),
        ("the defence costs", _cost(answer)),
    ]
    return [row for row in rows if row is not None]


def _rows(console: Console, rows: list[tuple[str, str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False, collapse_padding=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in rows:
        table.add_row(name, Text(text))
    console.print(table)


def _spread(spread: Spread) -> str:
    if spread.p5 == spread.p95:
        return days(spread.p50)
    return f"{days(spread.p50)} ({days(spread.p5)} to {days(spread.p95)} in 90%)"


def _numbers(spread: Spread) -> str:
    if spread.p5 == spread.p95:
        return number(spread.p50)
    return f"{number(spread.p50)} ({number(spread.p5)} to {number(spread.p95)} in 90%)"


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} ({part:.0%})" for name, part in list(shares.items())[:3])


def _audited(tokens: int | None) -> str:
    if tokens is None:
        return "never: nothing is verified"
    return f"{tokens:,} token{'s' if tokens > 1 else ''} of his choice"


def _duty(answer: Answer) -> str:
    duty = answer.point.best_duty
    if duty is None:
        return "none that the cap leaves room for gets the weights out"
    by = next(row for row in answer.strategies if row.duty == duty)
    return f"{share(duty)} of tokens, {days(by.days)} with {number(by.alarms)} alarms"


def _cap(row: CapFor) -> str:
    if row.cap_bits_a_day is None:
        text = "no cap"
    else:
        text = f"a fixed cap of {bits(row.cap_bits_a_day)}, {share(row.honest_share)} of honest use"
        if row.honest_share is not None and row.honest_share < 1:
            text += " (it would turn users away)"
    if row.sure_cap_bits_a_day is None:
        text += "; nor for 95% of lifetimes" if row.cap_bits_a_day is None else ""
    else:
        text += f"; {bits(row.sure_cap_bits_a_day)} for 95% of lifetimes"
    if row.residual is not None:
        text += f"; or a residual of {share(row.residual)} under its own cap"
    return text


def _cost(answer: Answer) -> str:
    cost = answer.cost
    text = (
        f"{share(cost.total_share)} of serving: {share(cost.verify_share)} to re-execute, "
        f"{share(cost.link_share)} for the link"
    )
    if cost.usd_a_day is not None:
        text += f"; {cost.usd_a_day:,.0f} USD a day"
    if cost.refused_share:
        text += f"; the cap refuses {share(cost.refused_share)} of honest use in the model's life"
    return text


def _strategies(answer: Answer) -> Table:
    table = Table(
        "strategy", "bits a day", "days there", "alarms", "days in all", "bounds the red team's",
        box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    duties = [row for row in answer.strategies if model.kind(row.name) == "duty" and row.fits]
    others = [row for row in answer.strategies if model.kind(row.name) != "duty"]
    best = min(duties, key=_days_of, default=None)
    for row in others + ([] if best is None else [best]):
        style = "bold" if row.name == answer.point.strategy else ""
        table.add_row(
            row.name,
            bits(row.bits_a_day),
            days(row.days_there),
            number(row.alarms),
            days(row.days),
            ", ".join(row.stands_for),
            style=style,
        )
    return table


def _days_of(row: Strategy) -> float:
    return math.inf if row.days is None else row.days


def _tornado(answer: Answer) -> Table:
    table = Table("value", "range", "days at either end", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in (table.columns[0], table.columns[3]):
        column.no_wrap = True
    here = answer.point.days
    widest = max((_reach(row, here) for row in answer.swings), default=1.0) or 1.0
    for row in answer.swings[:_SWINGS]:
        table.add_row(
            row.name,
            f"{number(row.low)} to {number(row.high)} {row.unit}",
            f"{days(row.days_at_low)}, {days(row.days_at_high)}",
            _bar(row, here, widest),
        )
    return table


def _reach(row: Swing, here: float | None) -> float:
    return max(abs(_log(end, here)) for end in (row.days_at_low, row.days_at_high))


def _log(end: float | None, here: float | None) -> float:
    return 0.0 if not end or not here else math.log(end / here)


def _bar(row: Swing, here: float | None, widest: float) -> Text:
    ends = sorted(_log(end, here) / widest for end in (row.days_at_low, row.days_at_high))
    left, right = (round(_BAR * abs(end)) for end in (min(ends[0], 0), max(ends[1], 0)))
    return Text(" " * (_BAR - left) + "█" * left + "│" + "█" * right + " " * (_BAR - right))


def _values(answer: Answer) -> Table:
    table = Table("value", "is", "from", "to", "unit", "source", box=box.SIMPLE_HEAD)
    for row in answer.inputs:
        source = row.source if row.given else f"{row.source} (default)"
        ends = (number(row.value), number(row.low), number(row.high))
        table.add_row(row.name, *ends, row.unit, Text(source))
    return table


def _provenance(console: Console, answer: Answer, values: bool) -> None:
    kinds = [row.source.split(":")[0] for row in answer.inputs]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("measured", "cited", "assumed"))
    hint = "" if values else "; --values shows them with their sources"
    console.print(f"values: {told}{hint}", style="dim", highlight=False)
    console.print(
        "not covered: ways out that no cap counts, parts of a model, correlated values, bugs",
        style="dim",
        highlight=False,
    )
