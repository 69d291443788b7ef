"""The worlds that every other test of the gate stands on."""

from __future__ import annotations

import socket
import subprocess

import pytest

from tidegate.errors import GateError
from tidegate.gate import needs, worlds
from tidegate.gate.worlds import DOWN, GATE, INNER, OUTSIDE, TAP, TAPPED, World, world

pytestmark = pytest.mark.needs_root


def _said_through(made: World, address: str, said: bytes, patience: float = 5) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def bound() -> socket.socket:
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.settimeout(patience)
        server.bind((address, 7000))
        return server

    def sent() -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.sendto(said, (address, 7000))

    with made.enter(OUTSIDE, bound) as server:
        made.enter(INNER, sent)
        return server.recv(100)


@pytest.mark.parametrize("address", [worlds.OUTSIDE_V4, worlds.OUTSIDE_V6])
def test_inner_reaches_outside_through_the_gate_alone(gate_world: World, address: str) -> None:
    assert _said_through(gate_world, address, b"hello") == b"hello"
    gate_world.run(GATE, ["ip", "link", "set", worlds.OUT, "down"])
    with pytest.raises(OSError, match=r"timed out|unreachable"):
        _said_through(gate_world, address, b"again", patience=0.2)


def test_the_tap_sees_both_directions_of_the_gates_wire(gate_world: World) -> None:
    def listening() -> socket.socket:
        tapped = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        tapped.bind((TAPPED, 3))
        tapped.settimeout(5)
        return tapped

    with gate_world.enter(TAP, listening) as tapped:
        _said_through(gate_world, worlds.OUTSIDE_V4, b"outward bytes")
        gate_world.run(OUTSIDE, ["ip", "neigh", "flush", "dev", DOWN])
        seen = b""
        while b"outward bytes" not in seen:
            seen += tapped.recv(2000)
    # An ARP request out and its answer in: ethertype, then operation.
    assert b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" in seen
    assert b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02" in seen


def test_a_world_that_fails_leaves_nothing_behind() -> None:
    with pytest.raises(GateError, match="no-such"), world() as made:  # noqa: PT012  two are meant
        made.popen(INNER, ["sleep", "60"])
        made.run(INNER, ["ip", "link", "show", "no-such"])
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert made.suffix not in listed
    with pytest.raises(GateError, match="no namespace"):
        made.enter(INNER, lambda: None)


def test_what_a_host_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GateError, match=r"no `nft`.*nftables.*no `ip`"):
        needs.require()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(GateError, match="as root"):
        needs.require()
