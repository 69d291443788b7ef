"""What the gate's policy promises, as figures: caps, reloads, kills, heartbeat and rates."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Final

from tidegate.bench import gate_trials
from tidegate.bench.figures import Figure, at_most, report
from tidegate.errors import TidegateError

Progress = Callable[[str, int, int], None]

FRAMES: Final = (60, 1000, 1514)
"""Sizes of frames, in bytes, that run against a cap."""
_HEADERS = 14 + 20 + 8
_CAP: Final = 400_000
_SUPER_CAP: Final = 4_000_000
_SUPER_PACKET: Final = 65_536
"""Bytes of data in the largest one."""
_RATES: Final = ((1_000_000, False), (1_000_000, True), (8_000_000, True))
"""Bytes a second, and whether super-packets are made."""
_RATE_S: Final = 8.0


def overshoot(progress: Progress) -> dict[str, Figure]:
    """Packets above a cap, with and without offload. Raises TidegateError if it is not reached."""
    over, unused = [], []
    for number, size in enumerate(FRAMES):
        progress(f"overshoot: frames of {size} bytes", number, len(FRAMES) + 1)
        spent = gate_trials.overshoot(cap=_CAP, size=size - _HEADERS)
        _reached(spent, size)
        over.append(-(-max(0, spent.left - spent.cap) // size))
        unused.append(spent.cap - spent.left)
    progress("overshoot: super-packets", len(FRAMES), len(FRAMES) + 1)
    whole = gate_trials.overshoot_with_offload(cap=_SUPER_CAP)
    _reached(whole, 4 * _SUPER_PACKET)
    return {
        "overshoot_packets": at_most(
            max(over),
            0,
            unit="packets",
            n=len(FRAMES),
            how=f"frames of {', '.join(map(str, FRAMES))} bytes against a lifetime of {_CAP:,} "
            f"bytes, no offload; {', '.join(map(str, unused))} bytes of it were left in the end",
        ),
        "overshoot_super_packets": at_most(
            max(0, whole.left - whole.cap) / _SUPER_PACKET,
            1,
            unit="super-packets",
            n=whole.packets,
            how=f"TCP in segments of 100 bytes with offload against {whole.cap:,} bytes: the tap "
            f"counted {whole.left:,} on the wire",
        ),
    }


def _reached(spent: gate_trials.Spent, step: int) -> None:
    if spent.left + step < spent.cap:
        raise TidegateError(
            f"only {spent.left:,} of {spent.cap:,} bytes crossed in time: the machine is too busy "
            "to reach the cap"
        )


def reloads(rounds: int, progress: Progress) -> dict[str, Figure]:
    """What passes while rules are changed, or flushed, under a flood of what must not pass."""
    leaked, tried = gate_trials.leak_through_reloads(
        rounds, lambda done: progress("reloads", done, rounds)
    )
    flushes = max(1, rounds // 15)
    behind, offered = 0, 0
    for mode in ("charge", "drop"):
        for dead in (False, True):
            found = gate_trials.leak_through_flushes(flushes, super_packets=mode, dead=dead)
            behind, offered = behind + found[0], offered + found[1]
    if not min(tried, offered):
        raise TidegateError("nothing was sent during the reloads: they show nothing")
    return {
        "flush_leak_packets": at_most(
            behind,
            0,
            unit="packets",
            n=4 * flushes,
            how=f"{offered:,} packets tried, to a port that no class allows, in half a second "
            "after each `nft flush ruleset` from outside, with the quota's program and with the "
            "guard, "
            "with the controller alive and with one killed just before",
        ),
        "reload_leak_bytes": at_most(
            leaked,
            0,
            unit="bytes",
            n=rounds,
            how=f"{tried:,} packets tried, to a class whose quota was spent and to a port that no "
            "class allows, while the policy was changed and, every fifth time, applied anew",
        ),
    }


def kills(rounds: int, progress: Progress) -> dict[str, Figure]:
    """What the disk says after kills and torn writes, beside what crossed."""
    whole = gate_trials.kill_and_count(rounds, told=lambda done: progress("kills", done, rounds))
    offsets, short = gate_trials.torn_writes()
    return {
        "undercounted_after_kills": at_most(
            whole.undercounted,
            0,
            unit="bytes",
            n=whole.rounds,
            how=f"most bytes by which the disk fell short of what had crossed, after any kill; "
            f"{whole.crossed:,} crossed in all and {whole.charged:,} were charged; after every "
            "third kill the kernel's rules were gone, too",
        ),
        "undercounted_after_torn_writes": at_most(
            short,
            0,
            unit="states",
            n=offsets,
            how="the state file and the one beside it cut off at every offset, and old behind new: "
            "states that were believed and said less than the kernel had been granted",
        ),
    }


def heartbeat(rounds: int, progress: Progress) -> dict[str, Figure]:
    """Seconds until traffic stops when the controller is killed."""
    times = gate_trials.worst(
        gate_trials.stop_after_kill, rounds, lambda done: progress("heartbeat", done, rounds)
    )
    return {
        "stop_s": at_most(
            times[-1],
            1,
            unit="s",
            n=rounds,
            how="from a kill of the controller to the last datagram that arrived, the longest; "
            f"median {statistics.median(times):.2f}",
        )
    }


def rate(progress: Progress, turns: int = 3) -> dict[str, Figure]:
    """How far a capped class's bytes a second are from its rate."""
    figures: dict[str, Figure] = {}
    errors = []
    for number, (limit, offload) in enumerate(_RATES):
        held = []
        for turn in range(turns):
            progress(f"rate: {limit:,} bytes a second", number * turns + turn, turns * len(_RATES))
            held.append(gate_trials.rate_held(limit, seconds=_RATE_S, offload=offload))
        errors.append(abs(statistics.median(held) - 1))
        made = "with" if offload else "without"
        figures[f"rate.{limit // 1_000_000}mb.{'offload' if offload else 'plain'}"] = report(
            statistics.median(held),
            unit="ratio",
            n=turns,
            how=f"bytes on the wire of one TCP connection in {_RATE_S:g} s over {limit:,} a "
            f"second, {made} super-packets: median, from {min(held):.3f} to {max(held):.3f}",
        )
    progress("rate", turns * len(_RATES), turns * len(_RATES))
    figures["rate_error"] = at_most(
        max(errors), 0.02, unit="share", n=turns * len(errors), how="the farthest of the medians"
    )
    return figures
