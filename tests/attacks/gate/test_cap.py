"""Attempts to get more past the kernel's cap than the policy says; small versions of the bench."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tidegate.bench import gate_trials
from tidegate.bench.gate_rig import DNS, FORBIDDEN, closed_world, crossed, flood, held, policy
from tidegate.gate import nft, worlds
from tidegate.gate.worlds import GATE, INNER, OUT, UP, World

pytestmark = pytest.mark.needs_root


def test_a_flood_gets_the_cap_to_the_packet_and_nothing_more() -> None:
    spent = gate_trials.overshoot(cap=200_000)
    assert spent.cap - 1042 < spent.left <= spent.cap


def test_small_segments_in_super_packets_get_the_cap_in_bytes_on_the_wire() -> None:
    spent = gate_trials.overshoot_with_offload(cap=1_000_000)
    assert spent.cap - 70_000 < spent.left <= spent.cap


def test_nothing_leaks_through_reloads() -> None:
    leaked, tried = gate_trials.leak_through_reloads(5)
    assert leaked == 0
    assert tried > 1_000


@pytest.mark.parametrize("super_packets", ["charge", "drop"])
@pytest.mark.parametrize("dead", [False, True])
def test_nothing_leaks_when_somebody_flushes_every_rule(super_packets: str, dead: bool) -> None:
    leaked, tried = gate_trials.leak_through_flushes(2, super_packets=super_packets, dead=dead)
    assert leaked == 0
    assert tried > 1_000


def test_traffic_stops_when_the_controller_is_killed() -> None:
    # It raises where datagrams go on; how soon they stop is the bench's to say.
    assert gate_trials.stop_after_kill() >= 0


@pytest.mark.parametrize("super_packets", ["charge", "drop"])
def test_kills_at_any_moment_undercount_nothing(super_packets: str) -> None:
    killed = gate_trials.kill_and_count(2, super_packets=super_packets)
    assert killed.crossed > 0
    assert killed.undercounted == 0


@pytest.fixture
def closed() -> Iterator[World]:
    with closed_world(offload=False) as made:
        yield made


def _datagram(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x" * 100, (worlds.OUTSIDE_V4, port))


def _frames(device: str, ethertype: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((device, 0))
        for _ in range(5):
            # The gate's own kernel says so where it drops.
            with suppress(OSError):
                raw.send(b"\xff" * 6 + b"\x02" * 6 + ethertype.to_bytes(2, "big") + bytes(60))


def test_frames_of_other_protocols_leave_neither_from_inner_nor_from_the_gate(
    closed: World, tmp_path: Path
) -> None:
    with held(closed, policy(tmp_path)):
        before = crossed(closed)
        closed.enter(INNER, lambda: _frames(UP, 0x88B5))
        closed.enter(GATE, lambda: _frames(OUT, 0x88B5))
        closed.enter(GATE, lambda: _frames(OUT, 0x8100))
        with suppress(OSError):
            closed.enter(GATE, lambda: _datagram(FORBIDDEN))
        assert crossed(closed) == before
        dropped = {name: packets for name, packets, _ in _look(closed).passed}
        assert dropped["drop_not_ip"] == 10
        assert dropped["drop_denied"] == 1


def test_what_tc_redirects_past_nftables_is_dropped_by_the_quota_on_the_wire(
    closed: World, tmp_path: Path
) -> None:
    # The kernel skips its egress hook for redirected packets: a rule there alone is no cap.
    closed.run(GATE, ["ip", "link", "add", "detour", "type", "ifb"])
    closed.run(GATE, ["ip", "link", "set", "detour", "up"])
    closed.run(GATE, ["tc", "qdisc", "add", "dev", "inside", "ingress"])
    match = ["protocol", "all", "bpf", "bytecode", "1,6 0 0 4294967295,"]
    action = ["action", "mirred", "egress", "redirect", "dev", "detour"]
    closed.run(GATE, ["tc", "filter", "add", "dev", "inside", "parent", "ffff:", *match, *action])
    with held(closed, policy(tmp_path)), flood(closed, FORBIDDEN):
        before = crossed(closed)
        _until(lambda: gate_trials.sent(closed) > 500)
        assert crossed(closed) == before


def _look(made: World) -> nft.Kernel:
    kernel = made.enter(GATE, nft.look)
    assert kernel is not None
    return kernel


def test_rules_that_somebody_changes_close_the_gate(closed: World, tmp_path: Path) -> None:
    with held(closed, policy(tmp_path)) as keeping, flood(closed, DNS):
        closed.run(GATE, ["nft", "insert rule netdev tidegate egress_out accept"])
        closed.run(GATE, ["nft", "delete table netdev tidegate"])
        _until(lambda: keeping.failed)
        assert any(word in keeping.failed[0].message for word in ("changed", "gone", "refused"))
        before, tried = crossed(closed), gate_trials.sent(closed)
        _until(lambda: gate_trials.sent(closed) > tried + 500)
        assert crossed(closed) == before


def test_an_interface_made_anew_closes_the_gate(closed: World, tmp_path: Path) -> None:
    with held(closed, policy(tmp_path)) as keeping:
        closed.run(GATE, ["ip", "link", "del", OUT])
        closed.run(GATE, ["ip", "link", "add", OUT, "type", "veth", "peer", "far"])
        closed.run(GATE, ["ip", "link", "set", OUT, "up"])
        _until(lambda: keeping.failed)
        forwarded = [s for s in _look(closed).shape if '"chain": "forward"' in s]
        assert forwarded == []


def _until(true: Callable[[], object]) -> None:
    for _ in range(1500):
        if true():
            return
        threading.Event().wait(0.02)
    pytest.fail("it never came to that")


def test_removing_the_rules_stops_forwarding(closed: World, tmp_path: Path) -> None:
    with flood(closed, DNS):
        with held(closed, policy(tmp_path)) as keeping:
            _until(lambda: crossed(closed)[0] > 100)
        closed.enter(GATE, keeping.gate.remove)
        assert closed.enter(GATE, nft.look) is None
        before, tried = crossed(closed), gate_trials.sent(closed)
        _until(lambda: gate_trials.sent(closed) > tried + 500)
        assert crossed(closed) == before
