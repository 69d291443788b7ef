"""Three meters on real traffic: they agree to the byte, and the one that lies is named."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tidegate.bench import gate_meters, gate_traffic
from tidegate.clock import SystemClock
from tidegate.gate import bpf_program, bpf_syscall, meter_links, tap_ring
from tidegate.gate.bpf_assembler import R0, assemble, leave, move
from tidegate.gate.meter_kernel import KernelMeter
from tidegate.gate.meter_kit import EDGE, Kit, address_of
from tidegate.gate.meter_port import PROTOCOLS, Boundary, Counted, MeterError
from tidegate.gate.reconcile import Agree, CannotTell, Disagree, Verdict
from tidegate.gate.tap_program import Tap
from tidegate.gate.worlds import (
    DOWN,
    GATE,
    INNER,
    MIRROR,
    OUT,
    OUTSIDE,
    OUTSIDE_V4,
    OUTSIDE_V6,
    TAP,
    TAPPED,
    World,
    world,
)
from tidegate.units import Bits

pytestmark = pytest.mark.needs_root

NOW = Boundary(0, 0, "boot")
_UDP_SEGMENT = 103


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    """One world for tests that change nothing in it."""
    with world() as made:
        yield made


@pytest.fixture(scope="module")
def shared_kit(shared: World) -> Iterator[Kit]:
    """Its meters."""
    with gate_meters.metered(shared, SystemClock()) as opened:
        yield opened


@pytest.fixture
def kit(shared: World, shared_kit: Kit) -> Kit:
    """The same, counting from now: what a test before did to them is forgotten."""
    shared.enter(GATE, shared_kit.group.zero)
    return shared_kit


def _verdict(made: World, kit: Kit) -> Verdict:
    return made.enter(GATE, kit.group.settled)


def _agreed(made: World, kit: Kit) -> dict[str, Counted]:
    """What left by protocol since the last time, once all agree to the byte."""
    start = dict(kit.group.base[0].protocols)
    verdict = _verdict(made, kit)
    assert isinstance(verdict, Agree)
    assert verdict.settled
    rows = dict(kit.group.spans[0].after.protocols)
    return {name: rows[name] - start.get(name, Counted()) for name in rows}


def _sent_to(made: World, role: str, call: Callable[[socket.socket], None], *kind: int) -> None:
    def body() -> None:
        with socket.socket(*kind) as sender:
            call(sender)

    made.enter(role, body)


def _datagrams(made: World, sizes: list[int], role: str = INNER) -> None:
    def send(sender: socket.socket) -> None:
        for size in sizes:
            sender.sendto(bytes(size), (OUTSIDE_V4, 9))

    _sent_to(made, role, send, socket.AF_INET, socket.SOCK_DGRAM)


def _raw(made: World, frames: list[bytes]) -> None:
    def send(sender: socket.socket) -> None:
        for frame in frames:
            sender.sendto(frame, (OUT, 0))

    _sent_to(made, GATE, send, socket.AF_PACKET, socket.SOCK_RAW)


def _ours(made: World) -> bytes:
    return bytes.fromhex(made.enter(GATE, lambda: address_of(OUT)).replace(":", ""))


@pytest.mark.parametrize("offload", [True, False])
def test_mixed_traffic_is_counted_alike_by_all_three(offload: bool) -> None:
    with world(offload=offload) as made, gate_meters.metered(made, SystemClock()) as kit:
        for mss in (100, 536, 1448):
            size = 2_000_000 if offload else 400_000
            done = gate_meters.one_pass(made, kit, offload=offload, mss=mss, size=size)
            assert done.apart == 0
            assert done.wire > size / 2
            assert done.named == done.lies == 12
            # What each header adds is in it: a super-packet with one would fall far short.
            if mss == 100 and offload:
                assert done.wire > 1.4 * size
        counted = dict(kit.group.spans[2].after.protocols)
        assert set(counted) >= set(PROTOCOLS) - {"ip4.other", "ip6.other", "other"}


def test_the_meters_say_what_was_sent_and_not_only_the_same(shared: World, kit: Kit) -> None:
    sizes = [0, 1, 18, 100, 1472]
    _datagrams(shared, sizes)
    rows = _agreed(shared, kit)
    wire = sum(sizes) + 42 * len(sizes)
    assert rows["ip4.udp"] == Counted(len(sizes), wire - 14 * len(sizes), wire)


def test_every_fragment_is_counted_with_its_headers(shared: World, kit: Kit) -> None:
    _datagrams(shared, [4000])
    # 4,008 bytes over IP go in pieces of 1,480: three frames, each with 34 bytes of headers.
    assert _agreed(shared, kit)["ip4.fragment"] == Counted(3, 4008 + 3 * 20, 4008 + 3 * 34)


@pytest.mark.parametrize(("address", "headers"), [(OUTSIDE_V4, 42), (OUTSIDE_V6, 62)])
def test_a_super_packet_of_datagrams_hides_no_header(
    shared: World, kit: Kit, address: str, headers: int
) -> None:
    def send(sender: socket.socket) -> None:
        sender.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 100)
        sender.sendto(bytes(5_050), (address, 9))

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    _sent_to(shared, INNER, send, family, socket.SOCK_DGRAM)
    row = "ip6.udp" if ":" in address else "ip4.udp"
    wire = 5_050 + 51 * headers
    assert _agreed(shared, kit)[row] == Counted(51, wire - 51 * 14, wire)


def test_frames_that_are_no_ip_and_malformed_ones_are_counted_alike(
    shared: World, kit: Kit
) -> None:
    head = b"\xff" * 6 + _ours(shared)
    frames = [
        head + b"\x88\xb5" + bytes(300),
        head + b"\x08\x00",
        head + b"\x08\x00" + b"\x70" + bytes(30),
        head + b"\x08\x00" + b"\x4f" + bytes(8) + b"\x06" + bytes(40),
        head + b"\x86\xdd" + b"\x60" + bytes(5),
        head + b"\x86\xdd" + b"\x60" + bytes(5) + b"\x06",
        head + b"\x08\x06" + bytes(28),
        head + struct.pack("!H", 60) + bytes(60),
    ]
    _raw(shared, frames)
    rows = _agreed(shared, kit)
    assert sum(row.frames for row in rows.values()) >= len(frames)
    assert rows["other"] == Counted(0, 0, 314 + 74, 2, 314 + 74)
    assert rows["ip4.other"].packets == 2
    assert rows["ip4.tcp"].packets == 1


@pytest.mark.parametrize("counter", ["own_bytes", "kernel_bytes", "frames"])
def test_a_kernel_meter_that_was_tampered_with_is_named(
    shared: World, kit: Kit, counter: str
) -> None:
    assert isinstance(kit.kernel, KernelMeter)
    row = PROTOCOLS.index("ip4.udp")
    kit.kernel.map.add(row, bpf_program.COUNTERS.index(counter), 1)
    _datagrams(shared, [100])
    verdict = _verdict(shared, kit)
    kit.kernel.map.add(row, bpf_program.COUNTERS.index(counter), -1)
    assert isinstance(verdict, Disagree)
    assert verdict.liars == ("kernel",)


def test_a_frame_that_the_mirror_swallows_names_the_tap(shared: World, kit: Kit) -> None:
    swallow = bpf_syscall.load_classifier(assemble([move(R0, 2), leave()]), "swallow")

    def install() -> int:
        with meter_links.opened() as links:
            index = links.link(MIRROR).index
            links.attach(MIRROR, index, meter_links.EGRESS, swallow, "swallow")
            return index

    def remove() -> None:
        with meter_links.opened() as links:
            links.detach(MIRROR, index, meter_links.EGRESS)

    index = shared.enter(OUTSIDE, install)
    _datagrams(shared, [100])
    shared.enter(OUTSIDE, remove)
    verdict = _verdict(shared, kit)
    assert isinstance(verdict, Disagree)
    assert verdict.liars == ("tap",)


def test_a_ledger_that_was_written_to_is_named(shared: World, kit: Kit) -> None:
    kit.ledger._ledger.charge("wire", EDGE, Bits(8), "a byte that never left")
    _datagrams(shared, [100])
    verdict = _verdict(shared, kit)
    assert isinstance(verdict, Disagree)
    assert verdict.liars == ("ledger",)


def test_a_frame_under_a_borrowed_address_is_not_overlooked(shared: World, kit: Kit) -> None:
    _raw(shared, [b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5" + bytes(100)])
    assert isinstance(_verdict(shared, kit), Disagree)


def test_the_device_counts_what_the_kernel_meter_says_it_should(shared: World, kit: Kit) -> None:
    device = shared.enter(GATE, lambda: kit.device.read(NOW).device)
    kernel = shared.enter(GATE, lambda: kit.kernel.read(NOW).device)
    gate_traffic.tcp(shared, 1_000_000, mss=100)
    moved = []
    for meter, before in ((kit.device, device), (kit.kernel, kernel)):
        after = shared.enter(GATE, lambda meter=meter: meter.read(NOW).device)
        assert before is not None
        assert after is not None
        moved.append((after[0] - before[0], after[1] - before[1]))
    assert moved[0] == moved[1]


def test_without_bpf_the_queue_and_a_capture_take_its_place(shared: World) -> None:
    with gate_meters.metered(shared, SystemClock(), bpf=False) as kit:
        assert kit.lacking is not None
        done = gate_meters.one_pass(shared, kit, offload=True, mss=100, size=1_000_000)
        assert (done.apart, done.named) == (0, done.lies)


def test_a_tap_that_loses_a_frame_never_speaks_again(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap_ring, "BLOCKS", 2)
    monkeypatch.setattr(tap_ring, "BLOCK_BYTES", 4096)
    address = shared.enter(GATE, lambda: address_of(OUT))
    tap = shared.enter(TAP, lambda: Tap(TAPPED, address, SystemClock()))
    _datagrams(shared, [100] * 300)
    for _ in range(2):
        with pytest.raises(MeterError, match=r"lost|missing"):
            shared.enter(TAP, lambda: tap.read(NOW))
    tap.ring.close()


def test_an_interface_that_was_made_anew_is_not_the_one_that_was_metered() -> None:
    with world() as made:
        kernel = made.enter(GATE, lambda: KernelMeter(OUT))
        made.enter(GATE, lambda: kernel.read(NOW))
        made.run(GATE, ["ip", "link", "del", OUT])
        with pytest.raises(MeterError, match=OUT):
            made.enter(GATE, lambda: kernel.read(NOW))
        far = ["peer", "name", DOWN, "netns", made.name(OUTSIDE)]
        made.run(GATE, ["ip", "link", "add", OUT, "type", "veth", *far])
        with pytest.raises(MeterError, match="not the interface it was"):
            made.enter(GATE, lambda: kernel.read(NOW))


@pytest.mark.parametrize("interface", ["nothere", ""])
def test_an_unknown_interface_is_refused_with_its_name(shared: World, interface: str) -> None:
    with pytest.raises(MeterError, match=f"interface {interface}"):
        shared.enter(GATE, lambda: KernelMeter(interface))
    with pytest.raises(MeterError, match=r"cannot capture|no interface"):
        shared.enter(TAP, lambda: Tap(interface, "02:00:00:00:00:01", SystemClock()))


def test_a_program_that_the_kernel_refuses_is_explained() -> None:
    with pytest.raises(MeterError, match="does not take") as caught:
        bpf_syscall.load_classifier(assemble([leave()]), "broken")
    assert "R0 !read_ok" in str(caught.value.details["log"])


def test_a_meter_that_was_taken_off_and_a_tap_that_died_leave_no_verdict() -> None:
    with world() as shared, gate_meters.metered(shared, SystemClock()) as kit:
        shared.enter(GATE, kit.group.zero)
        shared.run(GATE, ["tc", "qdisc", "del", "dev", OUT, "clsact"])
        verdict = _verdict(shared, kit)
        assert isinstance(verdict, CannotTell)
        assert "taken off" in verdict.reason
        kit.tap.close()
        with pytest.raises(MeterError, match=r"gone|closed"):
            kit.tap.read(NOW)
