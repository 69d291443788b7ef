"""Attempts to be answered where nobody meters: through an interface that operators come in by."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.bench.gate_rig import controller, held, policy, until_open
from tidegate.clock import ManualClock, SystemClock
from tidegate.errors import GateError
from tidegate.gate.controller import Gate
from tidegate.gate.state import Store
from tidegate.gate.worlds import GATE, INNER, INSIDE, INSIDE_V4, INSIDE_V6, TAP, UP, World, world

pytestmark = pytest.mark.needs_root

_MANAGED, _FAR = "mgmt0", "operator0"
_GATES = ("10.81.9.1", "fd81:9::1")
_OPERATORS = ("10.81.9.2", "fd81:9::2")
_REQUESTS, _DATA = 20, b"secret" * 150


@pytest.fixture
def managed() -> Iterator[World]:
    """A gate's world with operators, whose namespace is the tap's."""
    with world(offload=False) as made:
        pair = ["ip", "link", "add", _MANAGED, "type", "veth", "peer", "name", _FAR]
        made.run(GATE, [*pair, "netns", made.name(TAP)])
        for role, device in ((GATE, _MANAGED), (TAP, _FAR)):
            made.run(role, ["ip", "link", "set", device, "up"])
        for own, operator, length in zip(_GATES, _OPERATORS, (24, 64), strict=True):
            made.run(GATE, ["ip", "address", "add", f"{own}/{length}", "dev", _MANAGED])
            known = [operator, "lladdr", "02:00:00:00:00:09", "dev", _MANAGED]
            made.run(GATE, ["ip", "neighbour", "add", *known])
        yield made


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _echo_v4(source: str) -> bytes:
    ask = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + _DATA
    ask = ask[:2] + _checksum(ask) + ask[4:]
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(INSIDE_V4).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(ask), 1, 0, 64, 1, 0) + ends
    return head[:10] + _checksum(head) + head[12:] + ask


def _echo_v6(source: str) -> bytes:
    ask = struct.pack("!BBHHH", 128, 0, 0, 1, 1) + _DATA
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(INSIDE_V6).packed
    ask = ask[:2] + _checksum(ends + struct.pack("!II", len(ask), 58) + ask) + ask[4:]
    return struct.pack("!IHBB", 6 << 28, len(ask), 58, 64) + ends + ask


def _reflected(made: World, kind: int, echo: bytes) -> int:
    """Bytes that operators receive of requests that claim to come from them."""
    gate = made.run(GATE, ["cat", f"/sys/class/net/{INSIDE}/address"]).stdout.strip()

    def ask() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
            for _ in range(_REQUESTS):
                raw.sendto(echo, (UP, kind, 0, 0, bytes.fromhex(gate.replace(":", ""))))

    before = _received(made)
    made.enter(INNER, ask)
    # A veth hands over before the sender is told; the first answer may wait for a neighbour.
    made.run(GATE, ["sleep", "0.3"])
    return _received(made) - before


def _received(made: World) -> int:
    return made.crossed(TAP, _FAR).received_bytes


@pytest.mark.parametrize("version", [4, 6])
def test_nobody_inside_is_answered_through_a_management_interface(
    managed: World, tmp_path: Path, version: int
) -> None:
    kind = 0x0800 if version == 4 else 0x86DD
    echo = _echo_v4(_OPERATORS[0]) if version == 4 else _echo_v6(_OPERATORS[1])
    whole = _REQUESTS * len(_DATA)
    assert _reflected(managed, kind, echo) > whole, "without rules the gate answers"
    chosen = policy(tmp_path)
    named = chosen.interfaces.model_copy(update={"management": (_MANAGED,)})
    with held(managed, chosen.model_copy(update={"interfaces": named})):
        assert _reflected(managed, kind, echo) < whole // 10


def test_nothing_is_forwarded_to_operators_when_somebody_flushes_every_rule(
    managed: World, tmp_path: Path
) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(_REQUESTS):
                client.sendto(_DATA, (_OPERATORS[0], 9))

    def arrived(role: str) -> int:
        before = _received(managed)
        managed.enter(role, send)
        managed.run(GATE, ["sleep", "0.2"])
        return _received(managed) - before

    whole = _REQUESTS * len(_DATA)
    assert arrived(INNER) > whole, "without rules the gate forwards it"
    chosen = policy(tmp_path)
    named = chosen.interfaces.model_copy(update={"management": (_MANAGED,)})
    chosen = chosen.model_copy(update={"interfaces": named})
    with controller(managed, chosen, begin=True) as keeping:
        until_open(managed)
        keeping.kill()
        managed.run(GATE, ["nft", "flush", "ruleset"])
        assert arrived(INNER) < whole // 10
        assert arrived(GATE) > whole, "the gate itself may speak with operators"
    managed.enter(GATE, Gate(chosen, Store(tmp_path), SystemClock()).remove)
    shown = managed.run(GATE, ["tc", "filter", "show", "dev", _MANAGED, "egress"]).stdout
    assert shown == ""


def test_a_wall_before_operators_that_is_taken_off_closes_the_gate(
    managed: World, tmp_path: Path
) -> None:
    chosen = policy(tmp_path)
    named = chosen.interfaces.model_copy(update={"management": (_MANAGED,)})
    chosen, clock = chosen.model_copy(update={"interfaces": named}), ManualClock()
    gate = Gate(chosen, Store(tmp_path), clock)
    managed.enter(GATE, lambda: gate.apply(begin=True))
    clock.advance(2)
    assert managed.enter(GATE, gate.beat).open
    managed.run(GATE, ["tc", "filter", "del", "dev", _MANAGED, "egress"])
    clock.advance(2)
    with pytest.raises(GateError, match=_MANAGED):
        managed.enter(GATE, gate.beat)


def test_an_interface_that_is_no_longer_for_operators_loses_its_wall(
    managed: World, tmp_path: Path
) -> None:
    plain = policy(tmp_path)
    named = plain.interfaces.model_copy(update={"management": (_MANAGED,)})
    gate = Gate(plain.model_copy(update={"interfaces": named}), Store(tmp_path), ManualClock())
    managed.enter(GATE, lambda: gate.apply(begin=True))
    shown = ["tc", "filter", "show", "dev", _MANAGED, "egress"]
    assert "tidegate_wall" in managed.run(GATE, shown).stdout
    managed.enter(GATE, lambda: gate.reload(plain))
    assert managed.run(GATE, shown).stdout == ""
