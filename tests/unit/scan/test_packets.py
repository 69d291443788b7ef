"""Frames taken apart: nothing that carries bytes out is overlooked, and nothing raises."""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import given
from hypothesis import strategies as st

from tidegate.scan.packets import FRAGMENT, ICMP, MALFORMED, TCP, UDP, Flow, dissect, dissect_ip

_A, _B = ipaddress.ip_address("10.0.0.1").packed, ipaddress.ip_address("10.0.0.2").packed
_A6, _B6 = ipaddress.ip_address("fd00::1").packed, ipaddress.ip_address("fd00::2").packed


def _v4(protocol: int, body: bytes, *, flags: int = 0, options: bytes = b"") -> bytes:
    words = 5 + len(options) // 4
    total = 4 * words + len(body)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, total, 7, flags, 64, protocol, 0)
    return head + _A + _B + options + body


def _v6(following: int, body: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(body), following, 64) + _A6 + _B6 + body


def _tcp(payload: bytes, *, sequence: int = 5, flags: int = 0x10) -> bytes:
    return struct.pack(">HHIIBBHHH", 4000, 443, sequence, 0, 0x50, flags, 0, 0, 0) + payload


def _udp(payload: bytes) -> bytes:
    return struct.pack(">HHHH", 5353, 53, 8 + len(payload), 0) + payload


def _frame(kind: int, body: bytes) -> bytes:
    return b"\x02" * 6 + b"\x04" * 6 + struct.pack(">H", kind) + body


def test_a_tcp_segment_gives_its_ends_and_its_sequence_number() -> None:
    packet = dissect(_frame(0x0800, _v4(6, _tcp(b"hello", sequence=77, flags=0x12))))
    assert packet.flow == Flow(TCP, _A, 4000, _B, 443)
    assert (packet.payload, packet.sequence, packet.begins, packet.ends) == (
        b"hello",
        77,
        True,
        False,
    )
    assert str(packet.flow) == "tcp 10.0.0.1 port 4000 → 10.0.0.2 port 443"


def test_options_vlan_tags_and_extension_headers_hide_nothing() -> None:
    tagged = _frame(0x8100, b"\x00\x05\x08\x00" + _v4(17, _udp(b"q"), options=b"\x01" * 8))
    assert dissect(tagged).flow == Flow(UDP, _A, 5353, _B, 53)
    hops = b"\x3c\x00" + bytes(6) + b"\x06\x00" + bytes(6)
    assert dissect(_frame(0x86DD, _v6(0, hops + _tcp(b"six")))).payload == b"six"


def test_link_padding_is_not_taken_for_payload() -> None:
    assert dissect(_frame(0x0800, _v4(17, _udp(b"q")) + bytes(20))).payload == b"q"


def test_a_super_packet_that_cannot_state_its_length_is_read_whole() -> None:
    datagram = bytearray(_v4(6, _tcp(b"x" * 100)))
    datagram[2:4] = b"\x00\x00"
    assert dissect_ip(bytes(datagram)).payload == b"x" * 100


def test_fragments_raw_link_frames_and_icmp_are_flows_of_their_own() -> None:
    assert dissect_ip(_v4(17, b"tail", flags=0x2001)).flow.kind == FRAGMENT
    assert dissect_ip(_v6(44, b"\x11\x00\x00\x09" + bytes(4) + b"tail")).flow.kind == FRAGMENT
    raw = dissect(_frame(0x88B5, b"weights"))
    assert (raw.flow.kind, raw.payload) == ("ether-0x88b5", b"weights")
    ping = dissect_ip(_v4(1, b"\x08\x00weights"))
    assert (ping.flow.kind, ping.payload) == (ICMP, b"\x08\x00weights")
    assert dissect_ip(_v4(47, b"gre")).flow.kind == "ip-47"


def test_headers_that_lie_are_malformed_and_keep_their_bytes() -> None:
    short = _v4(6, b"\x00" * 12)
    assert (dissect_ip(short).flow.kind, dissect_ip(short).payload) == (MALFORMED, b"\x00" * 12)
    assert dissect(b"abc").payload == b"abc"


@given(st.binary(max_size=200), st.sampled_from([0x0800, 0x86DD, 0x8100, 0x0806]))
def test_any_bytes_are_a_packet(body: bytes, kind: int) -> None:
    packet = dissect(_frame(kind, body))
    assert len(packet.payload) <= len(body)
    assert str(packet.flow)


@given(st.data())
def test_a_flipped_header_byte_never_raises(data: st.DataObject) -> None:
    whole = bytearray(_frame(0x0800, _v4(6, _tcp(b"payload"))))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    dissect(bytes(whole))
