from __future__ import annotations

import io
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.scan.pcap import CaptureError, Frame, frames, is_capture

FRAMES = (b"\x02" * 14 + b"first", b"\x02" * 14 + b"second!", b"\x02" * 60)


def _pcap(order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1) -> bytes:
    head = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65_535, link)
    return head + b"".join(
        struct.pack(f"{order}IIII", 1, 2, len(data), len(data)) + data for data in FRAMES
    )


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def _pcapng(order: str = "<") -> bytes:
    section = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)
    interface = struct.pack(f"{order}HHI", 1, 0, 0)
    told = _block(order, 0x0A0D0D0A, section) + _block(order, 1, interface)
    for data in FRAMES:
        head = struct.pack(f"{order}IIIII", 0, 1, 2, len(data), len(data))
        told += _block(order, 6, head + data) + _block(order, 5, b"statistics")
    return told


CAPTURES = {
    "little": _pcap(),
    "big": _pcap(">"),
    "nanoseconds": _pcap("<", 0xA1B23C4D),
    "pcapng little": _pcapng(),
    "pcapng big": _pcapng(">"),
}


def _read(data: bytes) -> list[Frame]:
    return list(frames(io.BytesIO(data).read))


@pytest.mark.parametrize("kind", CAPTURES)
def test_every_kind_of_capture_gives_its_frames(kind: str) -> None:
    assert is_capture(CAPTURES[kind])
    assert tuple(frame.data for frame in _read(CAPTURES[kind])) == FRAMES


def test_bytes_that_were_not_captured_are_counted() -> None:
    data = bytearray(_pcap())
    data[24 + 12 : 24 + 16] = struct.pack("<I", 1500)
    assert _read(bytes(data))[0].missing == 1500 - len(FRAMES[0])


@pytest.mark.parametrize("kind", CAPTURES)
def test_a_capture_torn_at_any_byte_gives_what_was_whole(kind: str) -> None:
    whole = CAPTURES[kind]
    for end in range(4, len(whole)):
        seen: list[bytes] = []
        with suppress(CaptureError):
            seen.extend(frame.data for frame in frames(io.BytesIO(whole[:end]).read))
        assert tuple(seen) == FRAMES[: len(seen)]


def test_a_frame_longer_than_any_is_refused_and_not_allocated() -> None:
    data = bytearray(_pcap())
    data[24 + 8 : 24 + 12] = struct.pack("<I", 1 << 31)
    with pytest.raises(CaptureError, match="frame 1 claims 2147483648 bytes"):
        _read(bytes(data))


def test_what_is_no_capture_is_refused() -> None:
    assert not is_capture(b"\x7fELF")
    with pytest.raises(CaptureError, match="neither pcap nor pcapng"):
        _read(b"\x7fELF" + bytes(100))


@given(st.sampled_from(sorted(CAPTURES)), st.integers(0, 200), st.binary(min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_damage_is_an_error_or_other_frames_never_a_crash(kind: str, at: int, with_: bytes) -> None:
    data = CAPTURES[kind]
    damaged = data[:4] + (data[4 : 4 + at] + with_ + data[4 + at + len(with_) :])
    with suppress(CaptureError):
        for frame in frames(io.BytesIO(damaged).read):
            frame.packet()
