"""The policy's rates as `tc` commands. Pure.

Rates are shaped by HTB on the outside interface, whose classes nftables picks through the packets'
priority. What does not conform is dropped by nftables before it is charged, so the queue behind
holds at most a fifth of a second and empties as fast once the heart stops.
"""

from __future__ import annotations

from tidegate.gate.policy import Policy

_UNRATED = 2**36
"""Bytes a second of what has no rate: more than any line."""


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
