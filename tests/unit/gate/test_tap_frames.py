"""What the tap makes of captured blocks, beside the same written down frame by frame."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gate.meter_port import PROTOCOLS, Counted, MeterError
from tidegate.gate.tap_frames import SNAP, Tally, tally_block

OURS = bytes.fromhex("02aabbccddee")
THEIRS = bytes.fromhex("020102030405")

_HEADER_AT = 48
_MAC_AT = 110


@dataclass(frozen=True)
class Captured:
    """A frame as the kernel lays it down, `length` bytes long; its first bytes are kept."""

    data: bytes
    length: int
    gso_type: int = 0
    gso_size: int = 0
    status: int = 1


def _block(frames: list[Captured]) -> memoryview:
    body = bytearray()
    for number, frame in enumerate(frames):
        kept = frame.data[: min(SNAP, frame.length)]
        size = -(-(_MAC_AT + len(kept)) // 8) * 8
        record = bytearray(size)
        following = size if number < len(frames) - 1 else 0
        fields = (following, 1, 2, len(kept), frame.length, frame.status, _MAC_AT, _MAC_AT + 14)
        struct.pack_into("<IIIIIIHH", record, 0, *fields)
        struct.pack_into(
            "<BBHHHH", record, _MAC_AT - 10, 0, frame.gso_type, 0, frame.gso_size, 0, 0
        )
        record[_MAC_AT : _MAC_AT + len(kept)] = kept
        body += record
    head = struct.pack("<IIIIIIQ", 3, 0, 1, len(frames), _HEADER_AT, _HEADER_AT + len(body), 1)
    return memoryview(head.ljust(_HEADER_AT, b"\0") + body + bytes(64))


def _ip4(protocol: int, *, words: int = 5, fragment: int = 0, transport: bytes = b"") -> bytes:
    header = bytearray(4 * words)
    header[0] = 0x40 | words
    struct.pack_into("!H", header, 6, fragment)
    header[9] = protocol
    return bytes(header) + transport


def _ip6(protocol: int, transport: bytes = b"") -> bytes:
    header = bytearray(40)
    header[0], header[6] = 0x60, protocol
    return bytes(header) + transport


def _tcp(words: int = 8) -> bytes:
    header = bytearray(4 * words)
    header[12] = words << 4
    return bytes(header)


def _frame(kind: int, body: bytes, length: int | None = None, **more: int) -> Captured:
    data = b"\xff" * 6 + OURS + kind.to_bytes(2, "big") + body
    return Captured(data.ljust(length or 0, b"\0"), length or len(data), **more)


CASES = [
    (_frame(0x0800, _ip4(6, transport=_tcp()), 1514), "ip4.tcp", 1, 1514),
    (_frame(0x0800, _ip4(17, words=15, transport=bytes(8)), 90), "ip4.udp", 1, 90),
    (_frame(0x0800, _ip4(1), 98), "ip4.icmp", 1, 98),
    (_frame(0x0800, _ip4(47), 200), "ip4.other", 1, 200),
    (_frame(0x0800, _ip4(17, fragment=0x2000), 1514), "ip4.fragment", 1, 1514),
    (_frame(0x0800, _ip4(17, fragment=0x00B9), 300), "ip4.fragment", 1, 300),
    (_frame(0x0800, _ip4(6, fragment=0x4000, transport=_tcp()), 66), "ip4.tcp", 1, 66),
    (_frame(0x86DD, _ip6(6, _tcp()), 1514), "ip6.tcp", 1, 1514),
    (_frame(0x86DD, _ip6(17, bytes(8)), 62), "ip6.udp", 1, 62),
    (_frame(0x86DD, _ip6(58), 86), "ip6.icmp", 1, 86),
    (_frame(0x86DD, _ip6(44), 1510), "ip6.fragment", 1, 1510),
    (_frame(0x86DD, _ip6(0), 110), "ip6.other", 1, 110),
    (_frame(0x0806, bytes(28)), "arp", 1, 42),
    (_frame(0x88CC, bytes(50)), "other", 1, 64),
    # A tag beside the data makes it none of the above.
    (_frame(0x0800, _ip4(6, transport=_tcp()), 1514, status=1 | 1 << 4), "other", 1, 1514),
    # Too short for what they say they are.
    (_frame(0x0800, b""), "ip4.other", 1, 14),
    (_frame(0x0800, _ip4(6)[:9]), "ip4.other", 1, 23),
    (_frame(0x86DD, _ip6(6)[:6]), "ip6.other", 1, 20),
    (_frame(0x86DD, _ip6(58)[:7]), "ip6.icmp", 1, 21),
    (Captured(b"\xff" * 6 + OURS, 12), "other", 1, 12),
    # Super-packets: 40 segments of 88 bytes, the last of 10; the headers are on every one.
    (
        _frame(0x0800, _ip4(6, transport=_tcp()), 66 + 39 * 88 + 10, gso_type=1, gso_size=88),
        "ip4.tcp",
        40,
        40 * 66 + 39 * 88 + 10,
    ),
    (
        _frame(0x86DD, _ip6(6, _tcp(5)), 74 + 3 * 1428, gso_type=4 | 0x80, gso_size=1428),
        "ip6.tcp",
        3,
        3 * 74 + 3 * 1428,
    ),
    (
        _frame(0x0800, _ip4(17, transport=bytes(8)), 42 + 2500, gso_type=5, gso_size=1000),
        "ip4.udp",
        3,
        3 * 42 + 2500,
    ),
    # One that says it is a super-packet and holds no data.
    (_frame(0x0800, _ip4(6, transport=_tcp()), 66, gso_type=1, gso_size=88), "ip4.tcp", 1, 66),
]


@pytest.mark.parametrize(("frame", "row", "frames", "size"), CASES)
def test_a_frame_is_counted_where_it_belongs(
    frame: Captured, row: str, frames: int, size: int
) -> None:
    tally = tally_block(_block([frame]), OURS)
    assert {
        name: (count, bytes_)
        for name, count, bytes_ in zip(PROTOCOLS, tally.frames, tally.bytes, strict=True)
        if count
    } == {row: (frames, size)}
    assert tally.rows()[row].unexplained == 0


@given(st.lists(st.tuples(st.sampled_from(CASES), st.booleans()), max_size=40))
def test_a_block_is_the_sum_of_its_frames_that_left(
    picked: list[tuple[tuple[Captured, str, int, int], bool]],
) -> None:
    frames, truth, inbound = [], Tally(), 0
    for (frame, row, count, size), left in picked:
        data = frame.data if left else frame.data[:6] + THEIRS + frame.data[12:]
        frames.append(Captured(data, frame.length, frame.gso_type, frame.gso_size, frame.status))
        inbound += not left
        if left:
            at = PROTOCOLS.index(row)
            one = [0] * len(PROTOCOLS)
            more = list(one)
            one[at], more[at] = count, size
            truth = truth.plus(Tally(tuple(one), tuple(more)))
    assert tally_block(_block(frames), OURS) == truth.plus(Tally(inbound=inbound))


def test_a_lossy_block_ends_the_meter() -> None:
    with pytest.raises(MeterError, match="lost"):
        tally_block(_block([_frame(0x0806, bytes(28), status=1 | 1 << 2)]), OURS)


def test_a_super_packet_of_unknown_kind_ends_the_meter() -> None:
    with pytest.raises(MeterError, match="cannot cut"):
        tally_block(_block([_frame(0x0800, _ip4(17), 4000, gso_type=3, gso_size=8)]), OURS)


@given(st.binary(max_size=400), st.integers(0, 5), st.integers(0, 400))
def test_a_block_of_nonsense_is_refused_or_counted_but_never_read_past_its_end(
    body: bytes, count: int, first: int
) -> None:
    head = struct.pack("<IIIIII", 3, 0, 1, count, first, len(body) + _HEADER_AT)
    block = memoryview(head.ljust(_HEADER_AT, b"\0") + body)
    try:
        tally = tally_block(block, OURS)
    except MeterError:
        return
    assert sum(tally.frames) + tally.inbound >= count


def test_a_tally_names_what_is_not_ip() -> None:
    one = tally_block(_block([_frame(0x0806, bytes(28)), _frame(0x0800, _ip4(1), 98)]), OURS)
    rows = one.rows()
    assert rows["arp"] == Counted(0, 0, 42, 1, 42)
    assert rows["ip4.icmp"] == Counted(1, 84, 98)
