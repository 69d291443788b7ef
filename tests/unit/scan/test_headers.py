"""Room in headers: what honest stacks put there is passed over, all else is counted and scanned."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.redteam import thief_frames as frames
from tidegate.scan.headers import odd_of_ipv4, odd_of_ipv6, odd_of_tcp
from tidegate.scan.packets import dissect_ip

_V4, _V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")
_SYN = bytes.fromhex("020405b40402080a0000000100000000 0103 0307".replace(" ", ""))
_STAMPS = bytes.fromhex("0101080a0000000200000001")
_SACK = bytes.fromhex("0101050a0000000100000002")


def _segment(options: bytes) -> bytes:
    start = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, (20 + len(options)) // 4 << 4, 16, 9, 0, 0)
    return frames.ipv4(*_V4, frames.TCP, start + options + b"payload")


@pytest.mark.parametrize("options", [b"", _SYN, _STAMPS, _SACK, b"\x01\x01\x01\x00"])
def test_what_honest_stacks_send_is_not_odd(options: bytes) -> None:
    packet = dissect_ip(_segment(options))
    assert (packet.odd, packet.payload) == (b"", b"payload")


@pytest.mark.parametrize(
    ("options", "odd"),
    [
        (b"\xfe\x08secret", b"\xfe\x08secret"),
        (_STAMPS + b"\x22\x08cookie", b"\x22\x08cookie"),
        (b"\x02\x08secret", b"\x02\x08secret"),
        (b"\x00behind.", b"\x00behind."),
        (b"\xfe\x28odd", b"\xfe\x28odd"),
        (b"\xfe\x01od", b"\xfe\x01od"),
    ],
)
def test_tcp_options_that_nobody_needs_are_odd(options: bytes, odd: bytes) -> None:
    options += bytes(-len(options) % 4)
    packet = dissect_ip(_segment(options))
    assert packet.odd.rstrip(b"\0") == odd
    assert packet.odd_ip == 0


def _behind(header: bytes, kind: int) -> bytes:
    return frames.ipv6(*_V6, kind, header + frames.udp(*_V6, (1, 2), b"payload"))


@pytest.mark.parametrize("kind", [0, 60])
def test_options_of_ipv6_are_odd_where_they_say_something(kind: int) -> None:
    secret = b"secret" * 40
    packet = dissect_ip(_behind(frames.options_header(frames.UDP, secret), kind))
    assert packet.odd_ip == len(packet.odd) >= len(secret)
    assert packet.payload == b"payload"
    padding = dissect_ip(_behind(frames.options_header(frames.UDP, bytes(100)), kind))
    assert (padding.odd, padding.payload) == (b"", b"payload")


def test_a_router_alert_is_known_and_one_of_another_length_is_not() -> None:
    assert odd_of_ipv6(bytes.fromhex("3a00050200000100")) == b""
    assert odd_of_ipv6(bytes.fromhex("3a0005047365637200")) == bytes.fromhex("050473656372")


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        (43, b"\x11\x00secret"),
        (135, b"\x11\x00secret"),
        (139, b"\x11\x00secret"),
        (51, b"\x11\x01" + b"secretsecr"),
    ],
    ids=["routing", "mobility", "identity", "authentication"],
)
def test_other_extension_headers_are_odd_as_a_whole(kind: int, header: bytes) -> None:
    packet = dissect_ip(_behind(header, kind))
    assert packet.odd == header[2:]
    assert packet.payload == b"payload"


def test_reserved_bits_of_a_fragment_header_are_odd() -> None:
    header = bytearray(frames.fragment_header(frames.UDP, 0, False, 7))
    assert dissect_ip(_behind(bytes(header), 44)).odd == b""
    header[1], header[3] = 0x53, 6
    assert dissect_ip(_behind(bytes(header), 44)).odd == b"\x53\x06"


def test_ipv4_options_are_odd_but_for_a_membership_reports() -> None:
    assert odd_of_ipv4(b"\x94\x04\0\0") == b""
    assert odd_of_ipv4(b"\x94\x04ab") == b"\x94\x04ab"
    datagram = frames.udp(*_V4, (1, 2), b"payload")
    packet = dissect_ip(frames.ipv4(*_V4, frames.UDP, datagram, options=b"\x9e\x08secret"))
    assert packet.odd == b"\x9e\x08secret"


@pytest.mark.parametrize("version", [4, 6])
def test_what_lies_behind_the_stated_end_is_odd(version: int) -> None:
    if version == 4:
        datagram = frames.ipv4(*_V4, frames.UDP, frames.udp(*_V4, (1, 2), b"x"))
    else:
        datagram = frames.ipv6(*_V6, frames.UDP, frames.udp(*_V6, (1, 2), b"x"))
    filled = datagram + bytes(max(0, 46 - len(datagram)))
    assert dissect_ip(filled).odd == b""
    assert dissect_ip(filled + b"secret").odd == b"secret"


@given(st.binary(max_size=64))
def test_options_of_any_bytes_are_read_to_their_end(options: bytes) -> None:
    for read in (odd_of_tcp, odd_of_ipv4, odd_of_ipv6):
        assert len(read(options)) <= len(options)
