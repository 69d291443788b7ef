"""Do the gate's three meters agree to the byte, and is each one that lies named?"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from tidegate.bench import gate_traffic
from tidegate.bench.figures import Figure, at_least, at_most
from tidegate.clock import Clock, SystemClock
from tidegate.errors import TidegateError
from tidegate.gate import meter_kit
from tidegate.gate.meter_group import boot_id
from tidegate.gate.meter_port import ETHERNET, Counted, Reading, Span, sorted_rows
from tidegate.gate.reconcile import Agree, Disagree, reconcile
from tidegate.gate.worlds import GATE, OUT, TAP, TAPPED, World, world
from tidegate.ledger import Budget, Budgets, Ledger, MemoryStore

Progress = Callable[[str, int, int], None]

PLAN: Final = (
    (True, 1448, 90_000_000),
    (True, 536, 40_000_000),
    (True, 100, 30_000_000),
    (False, 1448, 30_000_000),
    (False, 536, 10_000_000),
    (False, 100, 4_000_000),
)
"""Offload, size of segments, and bytes of payload: more than 200 MB on the wire."""

_FRAMES: Final = (1514, -1514, 42, -42)
"""Frames that a meter adds or leaves out when it lies, in bytes."""

_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Pass:
    """One line of the plan: what the meters said of it.

    `apart` is the largest difference in bytes between any two of them, `wire` what the kernel's
    says left, `boundaries` how often they were compared under way, `named` how many of `lies`
    named the liar and nobody else.
    """

    offload: bool
    mss: int
    wire: int
    apart: int
    boundaries: int
    lies: int
    named: int


def measure(plan: Sequence[tuple[bool, int, int]], progress: Progress) -> dict[str, Figure]:
    """Figures over the whole plan. Raises TidegateError where the meters cannot tell."""
    passes = list(run(plan, progress))
    wire = sum(done.wire for done in passes)
    lies = sum(done.lies for done in passes)
    kinds = "MSS 100/536/1448, offload on and off, IPv4 and IPv6, TCP bulk and keystrokes, UDP "
    kinds += "with fragments, ICMP, ARP and neighbour discovery"
    return {
        "meters_disagree_bytes": at_most(
            max(done.apart for done in passes),
            0,
            unit="bytes",
            n=sum(done.boundaries for done in passes),
            how=f"largest difference between any two of ledger, kernel and tap; {kinds}; "
            "compared under load, too, within what was in flight",
        ),
        "meters_compared_mb": at_least(
            wire / 1e6, 200, unit="MB", n=len(passes), how="frames on the wire, all headers"
        ),
        "lies_named_share": at_least(
            sum(done.named for done in passes) / lies,
            1,
            unit="share",
            n=lies,
            how="one meter's last reading altered by one frame, more or fewer, of 42 or 1514 bytes",
        ),
    }


def run(plan: Sequence[tuple[bool, int, int]], progress: Progress) -> Iterator[Pass]:
    """Every line of the plan, each in a world of its own."""
    for number, (offload, mss, size) in enumerate(plan):
        progress(f"meters: MSS {mss}, offload {'on' if offload else 'off'}", number, len(plan))
        with world(offload=offload) as made, metered(made, SystemClock()) as kit:
            yield one_pass(made, kit, offload=offload, mss=mss, size=size)


def one_pass(world: World, kit: meter_kit.Kit, *, offload: bool, mss: int, size: int) -> Pass:
    """Send, compare under way and at rest, and lie. Raises TidegateError for a disagreement."""
    world.enter(GATE, kit.group.zero)
    base = kit.group.base
    stop = threading.Event()
    said: list[str] = []
    seen: list[int] = []

    def judge() -> None:
        while not stop.wait(_EVERY_S):
            verdict = kit.group.judge()
            seen.append(1)
            if not isinstance(verdict, Agree):
                said.append(str(verdict))

    watching = threading.Thread(target=lambda: world.enter(GATE, judge))
    watching.start()
    try:
        gate_traffic.mixed(world, size, mss=mss)
    finally:
        stop.set()
        watching.join()
    verdict = world.enter(GATE, kit.group.settled)
    if said or not (isinstance(verdict, Agree) and verdict.settled):
        raise TidegateError(f"the meters do not agree: {(said or [str(verdict)])[0]}")
    spans = kit.group.spans
    totals = [
        span.after.total.wire_bytes - start.total.wire_bytes
        for span, start in zip(spans, base, strict=True)
    ]
    lies = [_lie(spans, number, frame) for number in range(len(spans)) for frame in _FRAMES]
    return Pass(
        offload=offload,
        mss=mss,
        wire=totals[0],
        apart=max(totals) - min(totals),
        boundaries=len(seen) + 1,
        lies=len(lies),
        named=sum(lies),
    )


def _lie(spans: Sequence[Span], liar: int, frame: int) -> bool:
    """Whether a meter that counts a frame too many, or leaves one out, is named alone."""
    start = [span.after for span in spans]
    counted = [
        _more(reading, abs(frame)) if (number == liar) == (frame > 0) else reading
        for number, reading in enumerate(start)
    ]
    verdict = reconcile(start, [Span(reading, reading) for reading in counted])
    return isinstance(verdict, Disagree) and verdict.liars == (start[liar].meter,)


def _more(reading: Reading, frame: int) -> Reading:
    """A reading with one frame of IPv4's TCP more, in whatever of it the meter knows."""
    more = Counted(1, frame - ETHERNET, frame)
    if "packets" not in reading.knows:
        return replace(reading, total=reading.total + more)
    rows, classes = dict(reading.protocols), dict(reading.classes)
    rows["ip4.tcp"] = rows.get("ip4.tcp", Counted()) + more
    if classes:
        first = next(iter(classes))
        classes[first] += Counted(1, 0, frame)
    total = reading.total + more
    return replace(reading, total=total, protocols=sorted_rows(rows), classes=sorted_rows(classes))


@contextmanager
def metered(made: World, clock: Clock, *, bpf: bool = True) -> Iterator[meter_kit.Kit]:
    """The meters of a world's gate, with a ledger in memory that caps nothing."""
    address = made.enter(GATE, lambda: meter_kit.address_of(OUT))
    kit = made.enter(
        GATE,
        lambda: meter_kit.opened(
            OUT, tap_command(made, address), free_ledger(clock), clock, boot_id(), bpf=bpf
        ),
    )
    try:
        yield kit
    finally:
        made.enter(GATE, kit.close)


def tap_command(made: World, address: str) -> list[str]:
    """Starts the tap's program in the world's tap namespace."""
    program = [sys.executable, "-m", "tidegate.gate.tap_program", TAPPED, address]
    return ["ip", "netns", "exec", made.name(TAP), *program]


def free_ledger(clock: Clock) -> Ledger:
    """A ledger in memory without caps."""
    edges = ((meter_kit.EDGE, Budget()),)
    budgets = Budgets(name="meters", total=Budget(), edges=edges, principal=Budget())
    return Ledger(MemoryStore(), budgets, clock)
