"""`tidegate gate diary|latch|reset`: what the gate wrote down, and the hand on its latch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.clock import SystemClock
from tidegate.errors import GateError
from tidegate.gate.latch import FILE, Diary, Entry
from tidegate.gate.meter_group import boot_id
from tidegate.ledger import SqliteStore

State = Annotated[Path, typer.Option(help="The gate's folder, as `state` in its policy.")]
Why = Annotated[str, typer.Option(help="For whoever reads the diary later.")]

FOLDER = Path("/var/lib/tidegate/gate")


def reset(
    by: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Why,
    state: State = FOLDER,
) -> None:
    """Take the latch off: the meters begin anew, and the gate opens once they agree.

    Look at `tidegate gate diary` first: it has what each meter said. The reset is an entry, too.
    """
    with _opened(state) as diary:
        diary.reset(by, reason)
    typer.echo("The latch is off; the gate opens once its meters agree.")


def latch(reason: Why, state: State = FOLDER) -> None:
    """Close the gate by hand, until somebody resets it. Exits 1 where it was latched already."""
    with _opened(state) as diary:
        before = diary.latched()
        diary.latch(reason)
    if before is not None:
        typer.echo(f"It was latched already: {before}")
        raise typer.Exit(1)
    typer.echo("Latched: the gate closes at its next heartbeat.")


def diary(
    state: State = FOLDER,
    last: Annotated[int, typer.Option(min=1, help="How many entries.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, with evidence.")] = False,
) -> None:
    """What the gate wrote down: openings, closings, disagreements with evidence, resets.

    The whole chain is checked on the way. Exits 1 where the gate is latched.
    """
    with _opened(state) as log:
        size, head = log.position
        entries = list(log.entries(max(0, size - last)))
        latched = log.latched()
    if as_json:
        for entry in entries:
            sys.stdout.buffer.write(msgspec.json.encode(entry) + b"\n")
    else:
        _show(entries, Console())
        typer.echo(f"{size} entries, head {head.hex()}")
        typer.echo("not latched" if latched is None else f"LATCHED: {latched}")
    raise typer.Exit(0 if latched is None else 1)


@contextmanager
def _opened(folder: Path) -> Iterator[Diary]:
    path = folder / FILE
    if not path.is_file():
        raise GateError(f"there is no diary in {folder}: give --state as the policy has it")
    store = SqliteStore(path)
    try:
        yield Diary(store, SystemClock(), boot_id())
    finally:
        store.close()


def _show(entries: list[Entry], console: Console) -> None:
    table = Table()
    for column in ("n", "time (UTC)", "what", "text"):
        table.add_column(column)
    for entry in entries:
        when = datetime.fromtimestamp(entry.wall / 1000, UTC).strftime("%F %T")
        lines = [entry.text + (f" ({entry.who})" if entry.who else ""), *entry.findings]
        table.add_row(str(entry.n), when, entry.kind, "\n".join(lines))
    console.print(table)
