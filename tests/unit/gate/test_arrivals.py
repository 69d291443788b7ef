"""What arrives is counted as it is on a wire, whatever offload made of it."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from tidegate.errors import GateError
from tidegate.gate.arrivals import Arrivals, wire_bytes
from tidegate.gate.worlds import DOWN, INNER, OUTSIDE, OUTSIDE_V4, World

PLAIN = bytes(10)


def _super(kind: int, size: int, *, start: int = 0) -> bytes:
    return struct.pack("<BBHHHH", 1 if start else 0, kind, 0, size, start, 0)


def test_a_plain_frame_is_one_frame_of_its_length() -> None:
    assert wire_bytes(PLAIN, bytes(60)) == (1, 60)


@pytest.mark.parametrize("start", [0, 34])
def test_a_super_packet_of_tcp_has_headers_for_every_segment(start: int) -> None:
    headers = 14 + 20 + 32
    frame = bytearray(headers + 950)
    frame[12:15], frame[23], frame[34 + 12] = b"\x08\x00\x45", 6, 8 << 4
    assert wire_bytes(_super(1, 100, start=start), bytes(frame)) == (10, 10 * headers + 950)


def test_a_super_packet_of_udp_over_ipv6_has_eight_bytes_more_in_each() -> None:
    headers = 14 + 40 + 8
    frame = bytearray(headers + 1_000)
    frame[12:14], frame[20] = b"\x86\xdd", 17
    assert wire_bytes(_super(5, 500), bytes(frame)) == (2, 2 * headers + 1_000)


@pytest.mark.needs_root
def test_frames_of_one_direction_are_counted_and_handed_over(gate_world: World) -> None:
    seen: list[bytes] = []

    def taken(frame: bytes, stamp_ns: int) -> None:
        if frame.endswith(b"counted") and stamp_ns > 0:
            seen.append(frame)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(20):
                client.sendto(b"counted", (OUTSIDE_V4, 53))
                time.sleep(0.001)

    with gate_world.enter(OUTSIDE, lambda: Arrivals(DOWN, taken)) as arrivals:
        gate_world.enter(INNER, send)
    assert len(seen) == 20
    assert {len(frame) for frame in seen} == {14 + 20 + 8 + 7}
    assert arrivals.wire_bytes >= 20 * 49
    assert arrivals.frames < 30, "what outside itself answers is not counted"


@pytest.mark.needs_root
def test_an_interface_that_is_not_there_is_named(gate_world: World) -> None:
    with pytest.raises(GateError, match="cannot capture on nowhere"):
        gate_world.enter(OUTSIDE, lambda: Arrivals("nowhere"))
