"""Capture files to frames: pcap (both byte orders, µs and ns) and pcapng. Bytes in, values out.

Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. A file that ends in the middle, or
whose lengths cannot be, gives the frames before that and then says so: a torn capture of a leak is
still evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tidegate.errors import TidegateError
from tidegate.scan.packets import Packet, dissect, dissect_ip

Order = Literal["little", "big"]
Read = Callable[[int], bytes]
"""As a file's `read`: at most so many bytes, fewer only at the end."""

_MAGICS: Final[dict[bytes, Order]] = {
    b"\xd4\xc3\xb2\xa1": "little",
    b"\x4d\x3c\xb2\xa1": "little",
    b"\xa1\xb2\xc3\xd4": "big",
    b"\xa1\xb2\x3c\x4d": "big",
}
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
_LONGEST: Final = 1 << 18
"""Snapshot lengths of all capture programs are below this."""
_ETHERNET, _RAW, _RAW_BSD, _IPV4, _IPV6, _COOKED, _COOKED2 = 1, 101, 12, 228, 229, 113, 276
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6


class CaptureError(TidegateError):
    """A capture file is damaged from some byte on."""

    code = "capture_error"


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame. `link` is its LINKTYPE; `missing`: bytes of it that were not captured."""

    link: int
    data: bytes
    missing: int = 0

    def packet(self) -> Packet:
        """The frame taken apart; of links but Ethernet, raw IP, Linux cooked nothing is read."""
        if self.link == _ETHERNET:
            return dissect(self.data)
        if self.link in (_RAW, _RAW_BSD, _IPV4, _IPV6):
            return dissect_ip(self.data)
        if self.link == _COOKED:
            return dissect_ip(self.data[16:])
        if self.link == _COOKED2:
            return dissect_ip(self.data[20:])
        return dissect(b"")


def is_capture(head: bytes) -> bool:
    """Whether a file that begins so is a capture."""
    return head[:4] in _MAGICS or head[:4] == _PCAPNG


def frames(read: Read) -> Iterator[Frame]:
    """All frames of a capture file. Raises CaptureError at the byte where it is damaged."""
    magic = read(4)
    if magic in _MAGICS:
        yield from _pcap(read, _MAGICS[magic])
    elif magic == _PCAPNG:
        yield from _pcapng(read)
    else:
        raise CaptureError("this is no capture file: it begins like neither pcap nor pcapng")


def _exactly(read: Read, size: int, what: str) -> bytes:
    data = read(size)
    if len(data) < size:
        raise CaptureError(
            f"the capture ends inside {what}: {len(data)} of {size} bytes are there", missing=what
        )
    return data


def _pcap(read: Read, order: Order) -> Iterator[Frame]:
    header = _exactly(read, 20, "its header")
    link = int.from_bytes(header[16:20], order) & 0xFFFF
    number = 0
    while record := read(16):
        number += 1
        if len(record) < 16:
            raise CaptureError(f"the capture ends inside the header of frame {number}")
        captured, size = (int.from_bytes(record[at : at + 4], order) for at in (8, 12))
        if captured > _LONGEST:
            raise CaptureError(
                f"frame {number} claims {captured} bytes, more than any: damaged from here on"
            )
        data = _exactly(read, captured, f"frame {number}")
        yield Frame(link, data, max(0, size - captured))


def _pcapng(read: Read) -> Iterator[Frame]:
    order: Order = "little"
    links: list[int] = []
    kind_bytes, number = _PCAPNG, 0
    while kind_bytes:
        number += 1
        if len(kind_bytes) < 4:
            raise CaptureError(f"the capture ends inside the header of block {number}")
        length_bytes = _exactly(read, 4, f"block {number}")
        before = b""
        if kind_bytes == _PCAPNG:
            before = _exactly(read, 4, f"block {number}")
            order, links = ("little" if before == b"\x4d\x3c\x2b\x1a" else "big"), []
        length = int.from_bytes(length_bytes, order)
        if not 12 + len(before) <= length <= 16 * _LONGEST or length % 4:
            raise CaptureError(f"block {number} claims {length} bytes: damaged from here on")
        body = _exactly(read, length - 8 - len(before), f"block {number}")[:-4]
        kind = int.from_bytes(kind_bytes, order)
        if kind == _INTERFACE:
            links.append(int.from_bytes(body[:2], order))
        elif kind in (_SIMPLE, _ENHANCED):
            yield _block_frame(kind, body, order, links, number)
        kind_bytes = read(4)


def _block_frame(kind: int, body: bytes, order: Order, links: list[int], number: int) -> Frame:
    at, interface, captured = (4, 0, len(body) - 4)
    if kind == _ENHANCED:
        at, interface = 20, int.from_bytes(body[:4], order)
        captured = int.from_bytes(body[12:16], order)
    size = int.from_bytes(body[at - 4 : at], order)
    if kind == _SIMPLE:
        captured = min(captured, size)
    if len(body) < at or captured > len(body) - at or interface >= len(links):
        raise CaptureError(f"block {number} holds no whole frame of an interface it named before")
    return Frame(links[interface], body[at : at + captured], max(0, size - captured))
