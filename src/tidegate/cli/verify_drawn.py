"""What drawing answers finds and costs, and the commitments that make the draw checkable."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tidegate.cli.ground import secret_bytes
from tidegate.cli.verify_asked import policy_of
from tidegate.errors import ConfigError
from tidegate.verify import selection_plan
from tidegate.verify.selection import EPOCH_ENTRIES, By, commitment, epoch_key

_CHEATS = (1, 10, 30, 100, 300, 1_000, 10_000)
"""Deviating tokens, or messages, of which at least one should be drawn."""


def show_plan(
    console: Console, sample: str, by: By, lengths: str, cost: float, *, as_json: bool
) -> None:
    """Print what a share finds and costs. Raises ConfigError for one that is none."""
    policy = policy_of(sample, by)
    typical = _lengths(lengths)
    plan = selection_plan.plan(policy, typical, replay_over_generate=cost)
    if as_json:
        typer.echo(msgspec.json.encode(plan))
        return
    for line in plan.lines():
        console.print(line, highlight=False)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("an answer of", justify="right")
    drawn.add_column("is drawn with", justify="right")
    for length in typical:
        alone = selection_plan.plan(policy, [length])
        drawn.add_row(f"{length:,} tokens", f"{alone.expected_messages:.1%}")
    console.print(drawn)
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    found.add_column(f"deviating {by}s", justify="right")
    found.add_column("at least one is drawn with", justify="right")
    for count in _CHEATS:
        found.add_row(f"{count:,}", f"{selection_plan.detected(plan.rate, count):.2%}")
    console.print(found)


def show_commitments(
    console: Console, secret: Path, origin: str, epochs: Iterable[int], *, as_json: bool
) -> None:
    """Print a commitment an epoch. Raises ConfigError for a secret that cannot be read."""
    kept = secret_bytes(secret)
    made = {epoch: commitment(epoch_key(kept, epoch), origin, epoch).hex() for epoch in epochs}
    if as_json:
        typer.echo(msgspec.json.encode({"origin": origin, "commitments": made}))
        return
    table = Table("epoch", "entries", "commitment", box=box.SIMPLE_HEAD, pad_edge=False)
    for epoch, committed in made.items():
        begins = epoch * EPOCH_ENTRIES
        table.add_row(str(epoch), f"{begins:,} to {begins + EPOCH_ENTRIES - 1:,}", committed)
    console.print(table)


def _lengths(text: str) -> list[int]:
    try:
        lengths = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--lengths {text!r}: write whole numbers, as 10,50,200") from error
    if min(lengths) < 1:
        raise ConfigError("--lengths: an answer has at least one token")
    return lengths
