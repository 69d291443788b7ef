"""What the gate with all its meters costs in speed, over bare forwarding on the same machine.

Bare is the same namespaces with nothing on the gate and no mirror. The gate has its policy in
force, its controller, and ledger, kernel and tap held against each other ten times a second; the
tap and the controller take their processor time from the same machine, which a real tap would not.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Final

from tidegate.bench import gate_traffic
from tidegate.bench.figures import Figure, at_least, report
from tidegate.clock import SystemClock
from tidegate.errors import TidegateError
from tidegate.gate.policy import Policy, parse
from tidegate.gate.staged import staged
from tidegate.gate.worlds import DOWN, OUTSIDE, World, world

Progress = Callable[[str, int, int], None]

TURNS: Final = 5
CASES: Final = (
    ("throughput_over_bare", True, 1448, 600_000_000),
    ("throughput_over_bare_mss536", True, 536, 100_000_000),
    ("throughput_over_bare_mss100", True, 100, 60_000_000),
    ("throughput_over_bare_plain", False, 1448, 40_000_000),
)
"""Figure, offload, size of segments, and bytes of one pass."""

LEAST: Final = 0.5

_POLICY: Final = """
lifetime = 1_000_000_000_000
[interfaces]
inside = "inside"
outside = "out"
[classes.link]
protocol = "tcp"
quota = 1_000_000_000_000
[classes.neighbours]
protocol = "icmp"
quota = 1_000_000_000
[classes.resolution]
protocol = "arp"
quota = 1_000_000_000
"""


def policy() -> Policy:
    """TCP and what it needs to find its way, with quotas that no pass reaches."""
    return parse(_POLICY, "the bench's policy")


def measure(progress: Progress, *, turns: int = TURNS) -> dict[str, Figure]:
    """Figures of each case. Raises TidegateError where bytes do not arrive."""
    figures: dict[str, Figure] = {}
    for number, (key, offload, mss, size) in enumerate(CASES):
        ratios, bare, gated = [], [], []
        for turn in range(turns):
            progress(f"throughput: MSS {mss}", number * turns + turn, len(CASES) * turns)
            bare.append(_bare(offload, mss, size))
            gated.append(_gated(offload, mss, size))
            ratios.append(gated[-1] / bare[-1])
        middle = statistics.median(ratios)
        how = (
            f"one TCP connection of {size // 1_000_000} MB in segments of {mss} bytes, offload "
            f"{'on' if offload else 'off'}: median of alternating pairs, from {min(ratios):.2f} to "
            f"{max(ratios):.2f}; bare {statistics.median(bare) / 1e6:.0f} MB/s, "
            f"gated {statistics.median(gated) / 1e6:.0f} MB/s"
        )
        if number == 0:
            figures[key] = at_least(middle, LEAST, unit="ratio", n=turns, how=how)
        else:
            figures[key] = report(middle, unit="ratio", n=turns, how=how)
    return figures


def _bare(offload: bool, mss: int, size: int) -> float:
    with world(offload=offload) as made:
        made.run(OUTSIDE, ["tc", "qdisc", "del", "dev", DOWN, "clsact"])
        return _pass(made, mss, size)


def _gated(offload: bool, mss: int, size: int) -> float:
    with world(offload=offload) as made, staged(made, policy()):
        return _pass(made, mss, size)


def _pass(made: World, mss: int, size: int) -> float:
    """Bytes of payload a second, after a short connection that warms neighbours up."""
    gate_traffic.tcp(made, 1_000_000, mss=mss)
    clock = SystemClock()
    begun = clock.monotonic()
    done = gate_traffic.tcp(made, size, mss=mss)
    if done.arrived != size:
        raise TidegateError(f"of {size} bytes only {done.arrived} arrived")
    return size / (clock.monotonic() - begun)
