"""A sender's address can be made up, and says whatever its maker likes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.bench.gate_rig import DNS, held, policy
from tidegate.gate.worlds import (
    DOWN,
    GATE,
    INNER,
    INNER_V4,
    INNER_V6,
    INSIDE,
    OUTSIDE,
    OUTSIDE_V4,
    OUTSIDE_V6,
    UP,
    World,
    world,
)
from tidegate.redteam import thief_frames as frames

pytestmark = pytest.mark.needs_root

_COUNT, _DATA = 20, b"secret" * 100


@pytest.fixture
def routed() -> Iterator[World]:
    with world(offload=False) as made:
        yield made


def _datagram(source: str) -> tuple[int, bytes]:
    to = OUTSIDE_V6 if ":" in source else OUTSIDE_V4
    body = frames.udp(source, to, (4000, DNS), _DATA)
    if ":" in source:
        return 0x86DD, frames.ipv6(source, to, frames.UDP, body)
    return 0x0800, frames.ipv4(source, to, frames.UDP, body)


def _arrived(made: World, source: str) -> int:
    """Bytes that the far end receives of datagrams from `source`, whoever that is."""
    kind, datagram = _datagram(source)
    gate = made.run(GATE, ["cat", f"/sys/class/net/{INSIDE}/address"]).stdout.strip()

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
            for _ in range(_COUNT):
                raw.sendto(datagram, (UP, kind, 0, 0, bytes.fromhex(gate.replace(":", ""))))

    before = made.crossed(OUTSIDE, DOWN).received_bytes
    made.enter(INNER, send)
    made.run(GATE, ["sleep", "0.3"])
    return made.crossed(OUTSIDE, DOWN).received_bytes - before


@pytest.mark.parametrize(
    ("own", "made_up"), [(INNER_V4, "203.0.113.7"), (INNER_V6, "2001:db8:7365:6372:6574::7")]
)
def test_only_who_is_reached_inside_is_forwarded_from_inside(
    routed: World, tmp_path: Path, own: str, made_up: str
) -> None:
    whole = _COUNT * len(_DATA)
    assert _arrived(routed, made_up) > whole, "without rules the gate forwards it"
    with held(routed, policy(tmp_path)):
        assert _arrived(routed, own) > whole
        assert _arrived(routed, made_up) < whole // 10
