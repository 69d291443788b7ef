"""The policy's rates, and what stands behind nftables, as `tc` commands. Pure.

Rates are shaped by HTB on the outside interface, whose classes nftables picks through the packets'
priority. What does not conform is dropped by nftables before it is charged, so the queue behind
holds at most a fifth of a second and empties as fast once the heart stops.

Where no BPF program charges the wire, a filter of classic BPF on clsact drops what carries no
class's mark: nftables' rules can be flushed by anybody, and this is not among them.
"""

from __future__ import annotations

from typing import Final

from tidegate.gate.policy import Policy

_UNRATED = 2**36
"""Bytes a second of what has no rate: more than any line."""

UNMARKED: Final = "5,32 0 0 4294963220,84 0 0 15,21 0 1 0,6 0 0 2,6 0 0 4294967295"
"""Classic BPF: load the mark (SKF_AD_MARK), take its class; none: drop; else: ask other filters."""
_GUARD = "egress protocol all prio 1"


def guarding(policy: Policy) -> list[str]:
    """`tc -batch` lines; the interface has a clsact qdisc. None where a program does it."""
    if policy.super_packets == "charge":
        return []
    device = policy.interfaces.outside
    return [f'filter replace dev {device} {_GUARD} handle 1 bpf da bytecode "{UNMARKED},"']


def unguarding(policy: Policy) -> list[str]:
    """Takes away what `guarding` brought."""
    if policy.super_packets == "charge":
        return []
    return [f"filter del dev {policy.interfaces.outside} {_GUARD}"]


def shaping(policy: Policy) -> list[str]:
    """`tc -batch` lines; none where no class is shaped."""
    rated = [(name, c) for name, c in policy.classes.items() if c.shaped]
    if not rated:
        return []
    device = policy.interfaces.outside
    lines = [
        f"qdisc replace dev {device} root handle 1: htb default 1",
        f"class replace dev {device} parent 1: classid 1:1 htb rate {_UNRATED}bps quantum 60000",
    ]
    for name, chosen in rated:
        classid = f"1:{policy.number(name) + 1:x}"
        burst = max(2 * 1514, (chosen.rate or 0) // 1000)
        rate = f"rate {chosen.rate}bps burst {burst} cburst {burst} quantum 1514"
        lines.append(f"class replace dev {device} parent 1: classid {classid} htb {rate}")
        lines.append(f"qdisc replace dev {device} parent {classid} bfifo limit {2 * chosen.queue}")
    return lines
