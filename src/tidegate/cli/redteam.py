"""`tidegate redteam`: attackers who try for real, against the system in memory."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.progress import bars
from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.redteam.results import CampaignResult, Result

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Attack the system in memory: senders who own the model's host, receivers who decode what "
    "they get, and the verifier's own record, scores, tests and bounds against them.",
)

MARKOV = "markov"
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Name every attack, with what it does and what should hold it."""
    from tidegate.redteam.attacks import ATTACKS
    from tidegate.redteam.campaign import OTHERS

    rows = [(one.name, one.says, one.bound, one.must_catch) for one in ATTACKS] + list(OTHERS)
    if as_json:
        import msgspec

        keys = ("attack", "says", "bound", "must_catch")
        told = [dict(zip(keys, row, strict=True)) for row in rows]
        typer.echo(msgspec.json.format(msgspec.json.encode(told), indent=1).decode())
        return
    table = Table(title="attacks", title_justify="left")
    for column in ("attack", "what it does", "bound", "must be caught"):
        table.add_column(column)
    for name, says, bound, must_catch in rows:
        table.add_row(name, says, bound, "yes" if must_catch else "")
    Console().print(table)


@app.command()
def run(
    attack: Annotated[
        list[str] | None,
        typer.Option(help="Run this attack alone; may be repeated. `redteam list` names them."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="markov: a small drawn model, seconds. smollm2: the real one in float32 and "
            "bfloat16 (needs tidegate[torch]). exact:smollm2: the exact engine."
        ),
    ] = MARKOV,
    world: Annotated[
        list[str] | None,
        typer.Option(help="exact, fp32 or bf16: how far honest machines differ; may be repeated."),
    ] = None,
    calibration_tokens: Annotated[
        int | None,
        typer.Option(
            min=2_000,
            help="Honest tokens served first; fewer are quicker and carry less.",
        ),
    ] = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="A third of the traffic, as tests run it.")
    ] = False,
    rate: Annotated[
        str, typer.Option(help="The share of tokens whose answers are verified, such as 1/20.")
    ] = "1",
    sarif: Annotated[
        Path | None, typer.Option(help="Write the campaign as SARIF 2.1.0, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the campaign and print what each attacker got, beside the bound that had to hold.

    Exits 0 if every bound held and all that must be caught was caught in time, else 1.
    """
    from tidegate.cli.redteam_worlds import worlds_of
    from tidegate.redteam import campaign
    from tidegate.redteam.sarif import sarif as sarif_of

    with bars() as progress:
        found = campaign.run(
            worlds_of(model, world, progress),
            attacks=attack,
            calibration_tokens=calibration_tokens,
            rate=_share(rate),
            brief=brief,
            progress=progress,
        )
    if sarif is not None:
        sarif.write_bytes(sarif_of(found))
    if as_json:
        typer.echo(found.json().decode())
    else:
        _print(found)
    raise typer.Exit(0 if found.holds else 1)


def _share(text: str) -> Fraction:
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{text!r} is no share; write 1, 0.05 or 1/20") from error
    if not 0 < share <= 1:
        raise ConfigError("the share to verify lies above 0 and at most at 1")
    return share


def _print(found: CampaignResult) -> None:
    table = Table(title="redteam", title_justify="left")
    columns = ("world", "attack", "tokens", "sent", "received", "until alarm", "got", "bound", "")
    for column in columns:
        right = column in {"tokens", "sent", "received", "until alarm", "got", "bound"}
        table.add_column(column, justify="right" if right else "left")
    for one in found.results:
        table.add_row(*_cells(one), style="green" if one.holds else "bold red")
    console = Console()
    console.print(table)
    console.print(
        "sent, received: bits over all tokens, had nobody stopped it; received ones are right. "
        "until alarm: verified tokens, median. got, bound: bits until it was stopped, and at most.",
        style="dim",
    )
    for one in found.results:
        if one.note:
            console.print(f"{one.world} {one.attack}: {one.note}", style="dim", markup=False)
    held = sum(one.holds for one in found.results)
    console.print(f"{held} of {len(found.results)} held; {found.above_bound} above their bound")


def _cells(one: Result) -> tuple[str, ...]:
    if one.tokens_to_alarm is None:
        alarm = "never" if one.must_catch else "-"
    else:
        alarm = f"{one.tokens_to_alarm:.0f}" + (f" (of {one.limit})" if one.limit else "")
    return (
        one.world,
        one.attack,
        str(one.tokens),
        f"{one.bits_sent:.0f}",
        f"{one.bits_received:.0f}",
        alarm,
        f"{one.got:.1f}",
        f"{one.bound_bits:.1f} {one.bound}",
        "held" if one.holds else "BROKEN" if not one.within_bound else "LATE",
    )
