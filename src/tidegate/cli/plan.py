"""`tidegate plan`: how long a thief would need, and what would change that."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.default_command import default_to
from tidegate.cli.plan_files import scenario_of, shipped, text_of
from tidegate.cli.progress import bars
from tidegate.errors import ConfigError, LedgerError

if TYPE_CHECKING:
    from tidegate.plan.answer import Answer, Compared
    from tidegate.plan.fit import Charged

DEFAULT = "show"
"""`tidegate plan SCENARIO` is `tidegate plan show SCENARIO`."""

app = typer.Typer(
    cls=default_to(DEFAULT),
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="How many days a thief would need for the weights, what holds him back, and what a cap or "
    "more checking would buy: `tidegate plan frontier --html plan.html`. `plan list` names the "
    "scenarios that come with the package, `plan template` prints one to start from. Exits 0: "
    "done, 1: with `--at-least`, it is not enough, 2: the scenario cannot be.",
)

Named = Annotated[str, typer.Argument(help="A TOML file, or the name of a packaged scenario.")]
Lives = Annotated[int, typer.Option("--lifetimes", min=100, help="How many to simulate.")]
Seed = Annotated[int, typer.Option(min=0, help="Which draws; the same seed repeats them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Page = Annotated[Path | None, typer.Option(help="Also write a page with sliders and plots.")]


@app.command(DEFAULT)
def show(
    scenario: Named,
    days: Annotated[
        list[float] | None, typer.Option(help="Days that a cap shall buy; may be repeated.")
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(min=0, help="Exit 1 unless 95% of lifetimes last as many days."),
    ] = None,
    lifetimes: Lives = 100_000,
    seed: Seed = 0,
    values: Annotated[bool, typer.Option(help="Also print every value and its source.")] = False,
    as_json: AsJson = False,
    html: Page = None,
) -> None:
    """Days to exfiltrate, copies leaked, what binds, caps, sensitivities, strategies and cost."""
    from tidegate import __version__
    from tidegate.cli import plan_html, plan_shown
    from tidegate.plan import reckon

    _check_days(days or ())
    if html is not None:
        plan_html.require_plots()
    chosen = scenario_of(scenario)
    with bars() as progress:
        answer = reckon.answer(
            chosen,
            version=__version__,
            lifetimes=lifetimes,
            seed=seed,
            wanted=tuple(days or ()),
            curves=as_json or html is not None,
            progress=lambda done, total: progress("lifetimes", done, total),
        )
    _hand_out(answer, html, as_json=as_json)
    if not as_json:
        plan_shown.show(Console(), answer, values=values)
    if at_least is not None and answer.days.p5 is not None and answer.days.p5 < at_least:
        raise typer.Exit(1)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A scenario.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    lifetimes: Lives = 100_000,
    seed: Seed = 0,
    as_json: AsJson = False,
    html: Page = None,
) -> None:
    """Two scenarios on the same draws: before and after, or with and without."""
    from tidegate import __version__
    from tidegate.cli import plan_html, plan_shown
    from tidegate.plan import reckon

    if html is not None:
        plan_html.require_plots()
    pair = (scenario_of(first), scenario_of(second))
    with bars() as progress:
        told = reckon.compare(
            *pair,
            version=__version__,
            lifetimes=lifetimes,
            seed=seed,
            curves=as_json or html is not None,
            progress=lambda done, total: progress("lifetimes", done, total),
        )
    _hand_out(told, html, as_json=as_json)
    if not as_json:
        plan_shown.compare(Console(), told)


@app.command()
def fit(
    ledger: Annotated[Path, typer.Argument(help="The outer half's ledger (SQLite).")],
    verdict: Annotated[
        list[Path] | None,
        typer.Option(help="What `tidegate verify --json` printed; may be repeated."),
    ] = None,
    base: Annotated[str, typer.Option(help="The scenario that gives what is not measured.")] = (
        "smollm2-demo"
    ),
    parameters: Annotated[
        int | None, typer.Option(min=1, help="Of the strong model; else the base's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to; by default standard output.")] = None,
) -> None:
    """Write a scenario from what a running system charged and what its verifier found.

    Give reports over all that the ledger charged: bits a token are the one over the other's tokens.
    The ledger is checked first, and only read.
    """
    from tidegate.plan import written
    from tidegate.plan.fit import fitted
    from tidegate.plan.fit import verdict as verdict_of

    verdicts = [verdict_of(path.read_bytes(), str(path)) for path in verdict or ()]
    scenario, notes = fitted(scenario_of(base), _charged(ledger), verdicts, parameters=parameters)
    text = written.to_toml(scenario)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
    console = Console(stderr=True)
    for note in notes:
        console.print(f"not measured: {note}", style="dim", highlight=False, soft_wrap=True)


@app.command("list")
def packaged() -> None:
    """Name the packaged scenarios."""
    table = Table("name", "what it is", box=None, pad_edge=False)
    for name, scenario in shipped().items():
        table.add_row(name, scenario.title)
    Console().print(table)


@app.command()
def template(
    name: Annotated[str, typer.Argument(help="A packaged scenario.")] = "frontier",
) -> None:
    """Print a packaged scenario's file, to be changed: `tidegate plan template > mine.toml`."""
    typer.echo(text_of(name), nl=False)


@app.command()
def values() -> None:
    """Say what every value of a scenario means, its units, and what stands where it is left out."""
    from tidegate.plan.fields import FIELDS

    table = Table("value", "means", "has to be", "units", "if left out", box=None, pad_edge=False)
    for name, field in FIELDS.items():
        left_out = "none" if field.optional else "must be there"
        if field.default is not None:
            left_out = f"{field.default.value:.4g}"
        units = ", ".join(list(field.dimension.factors)[:4])
        table.add_row(name, field.means, field.valid(), units, left_out)
    Console().print(table)


def _check_days(days: Sequence[float]) -> None:
    for each in days:
        if not 0 < each < float("inf"):
            raise ConfigError(f"--days {each:g}: a number of days above 0 is wanted")


def _charged(path: Path) -> Charged:
    """What the ledger holds, once its chain was checked. Raises ConfigError or LedgerError."""
    from tidegate.ledger import Broken, CannotVerify, SqliteStore
    from tidegate.ledger import verify as check
    from tidegate.ledger.entries import Open, parse
    from tidegate.ledger.verify import rows_between
    from tidegate.plan.fit import charged

    if not path.is_file():
        raise ConfigError(f"there is no ledger {path}; has the half ever run?", file=str(path))
    with closing(SqliteStore(path)) as store:
        size = store.tip().size
        entries = [parse(row.entry, n) for n, row in enumerate(rows_between(store, 0, size))]
        opened = [entry.does.budgets for entry in entries if isinstance(entry.does, Open)]
        told = check(store, opened[-1]) if opened else None
    if isinstance(told, Broken | CannotVerify):
        raise LedgerError(f"{path} does not verify, so nothing is fitted to it: {told.reason}")
    return charged(entries)


def _hand_out(told: Answer | Compared, html: Path | None, *, as_json: bool) -> None:
    from tidegate.cli import plan_html

    if html is not None:
        plan_html.write(html, told)
        Console(stderr=True).print(f"wrote {html}", style="dim", highlight=False)
    if as_json:
        sys.stdout.buffer.write(told.json() + b"\n")
