"""`tidegate gate grid`: cells of one size in fixed slots, and what their timing leaves open."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tidegate.clock import SystemClock
from tidegate.errors import ConfigError
from tidegate.gate.grid import Departures, timing_bits, timing_bits_per_second
from tidegate.gate.grid_release import Charge, Releaser
from tidegate.gate.meter_hold import FILE, TIMING_EDGE, budgets
from tidegate.gate.policy import Policy, load
from tidegate.ledger import Ledger, SqliteStore
from tidegate.units import Bits


def grid(
    policy: Annotated[Path, typer.Argument(help="A policy with a [grid].")],
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so long; by default when told to.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Take what lanes inside say, and let it out by the grid: dummies where nothing is said.

    In the end says how many bits a second are open: those of all cells, which the gate's quotas
    charge, and those that departures may carry by straying from their slots, which the gate's
    ledger charges to the same lifetime as they are measured.
    """
    chosen = load(policy)
    if chosen.grid is None:
        raise ConfigError(f"{policy} has no [grid]", path=str(policy))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _charged(chosen) as charge, closing(Releaser(chosen.grid, charge)) as releaser:
        slots = None if seconds is None else round(seconds * releaser.cells.slots_per_second)
        releaser.run(stop, slots)
        _tell(releaser, chosen.grid.resolution_ns, as_json=as_json)


@contextmanager
def _charged(policy: Policy) -> Iterator[Charge]:
    policy.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(SqliteStore(policy.state / FILE)) as store:
        ledger = Ledger(store, budgets(policy), SystemClock())

        def charge(bits: Bits) -> None:
            ledger.commit(ledger.reserve("timing", TIMING_EDGE, bits), bits)

        yield charge


def _tell(releaser: Releaser, resolution_ns: int, *, as_json: bool) -> None:
    cells, seen = releaser.cells, releaser.departures
    open_bits = timing_bits_per_second(seen, cells, resolution_ns)
    if as_json:
        body = {
            "slots": seen.slots,
            "missed": seen.missed,
            "refused": releaser.refused,
            "spread_us": _spread_us(seen),
            "content_bits_per_second": cells.content_bits_per_second,
            "timing_bits_per_second": open_bits,
            "timing_bits": timing_bits(seen, resolution_ns),
        }
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")
        return
    typer.echo(
        f"{seen.slots:,} slots, {seen.missed:,} of them missed; {releaser.refused:,} refused"
    )
    typer.echo(f"cells: {cells.content_bits_per_second:,.0f} bits a second, said or not")
    typer.echo(
        f"timing: departures strayed by {_spread_us(seen):,.0f} us in all; told apart by "
        f"{resolution_ns / 1000:g} us that is at most {open_bits:,.1f} bits a second"
    )


def _spread_us(seen: Departures) -> float:
    return (seen.latest_ns - seen.earliest_ns) / 1000
