"""Compressed layers, and HTTP's framing, unpacked as they stream by, a bounded step at a time.

gzip (RFC 1952), zlib (RFC 1950), zstd (RFC 8878), bzip2, xz, and the members of zip archives.
A step's input is small enough that no bomb can make its output large; whether to go on is for the
caller to decide, who knows how much came out of how little.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import zstandard

from tidegate.scan import unwrap_http
from tidegate.scan.unwrap_http import Frame

_STEP: Final = 1 << 20
_ZSTD_INPUT: Final = 1 << 10
"""A zstd block of 4 bytes can stand for 128 KiB, so a step of 1 KiB gives at most 32 MiB."""
_ZSTD_WINDOW: Final = 1 << 27
_LZMA_MEMORY: Final = 1 << 27
_ZIP_HEADER: Final = 30
_ZIP_STORED, _ZIP_DEFLATED = 0, 8

_MAGICS: Final = (
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"PK\x03\x04",
    b"BZh",
    b"\xfd7zXZ\x00",
)
_ZLIB: Final = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
"""Two bytes are too few to look for anywhere; only where something begins."""


class PackedError(Exception):
    """The bytes are not what their magic says."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


@dataclass(slots=True)
class Unpacker:
    """One packed member, being read.

    Args:
        layer: its name, such as `gzip` or `zip member archive/data.pkl`.
        skip: header bytes before the packed ones.
    """

    layer: str
    skip: int
    _steps: Callable[[bytes], Iterator[bytes]]
    _ended: Callable[[], bytes | None]
    taken: int = 0
    given: int = 0
    frame: Frame | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out, in pieces. Raises PackedError for bytes that cannot be unpacked."""
        self.taken += len(data)
        try:
            for piece in self._steps(data):
                self.given += len(piece)
                yield piece
        except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError) as error:
            raise PackedError(str(error)) from error

    def rest(self) -> bytes | None:
        """Bytes fed that lie behind the member's end; None while it goes on."""
        return self._ended()


def beginnings(data: bytes, start: int, stop: int) -> list[int]:
    """Where packed members may begin in a stretch, ascending."""
    found: list[int] = []
    for mark in _MAGICS:
        at = data.find(mark, start, stop)
        while at >= 0:
            found.append(at)
            at = data.find(mark, at + 1, stop)
    return sorted(found)


def begin(head: bytes, *, at_start: bool, chunked: bool = False) -> Unpacker | None:
    """The unpacker for what `head` begins with, if it is packed.

    `at_start`: also weak magics; `chunked`: headers said that it comes in chunks.
    """
    if chunked:
        return _framed("chunked", unwrap_http.chunks(head))
    if head.startswith(b"PK\x03\x04"):
        return _zip_member(head)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd()
    if head.startswith(b"\x1f\x8b\x08"):
        return _bounded("gzip", zlib.decompressobj(31))
    if head.startswith(b"BZh"):
        return _bounded("bzip2", bz2.BZ2Decompressor())
    if head.startswith(b"\xfd7zXZ\x00"):
        return _bounded("xz", lzma.LZMADecompressor(memlimit=_LZMA_MEMORY))
    if at_start and _ZLIB.match(head):
        return _bounded("zlib", zlib.decompressobj())
    return _framed("multipart", unwrap_http.parts(head)) if at_start else None


def _framed(layer: str, frame: Frame | None) -> Unpacker | None:
    if frame is None:
        return None
    return Unpacker(layer, 0, frame.steps, frame.rest, frame=frame)


def _bounded(layer: str, machine: object, skip: int = 0) -> Unpacker:
    """For machines that take a longest output: zlib's keep unread input aside, others inside."""
    keeps = isinstance(machine, bz2.BZ2Decompressor | lzma.LZMADecompressor)

    def steps(data: bytes) -> Iterator[bytes]:
        while True:
            piece = machine.decompress(data, _STEP)  # type: ignore[attr-defined]
            if piece:
                yield piece
            data = b"" if keeps else machine.unconsumed_tail  # type: ignore[attr-defined]
            full = len(piece) == _STEP
            if machine.eof or not (full or data):  # type: ignore[attr-defined]
                return

    return Unpacker(layer, skip, steps, lambda: _unused(machine))


def _unused(machine: object) -> bytes | None:
    decompressor: _Decompressor = machine  # type: ignore[assignment]
    return decompressor.unused_data if decompressor.eof else None


def _zstd() -> Unpacker:
    machine = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    behind: list[bytes] = []

    def steps(data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _ZSTD_INPUT):
            piece = machine.decompress(data[at : at + _ZSTD_INPUT])
            if piece:
                yield piece
            if machine.eof:
                behind.append(machine.unused_data + data[at + _ZSTD_INPUT :])
                return

    return Unpacker("zstd", 0, steps, lambda: behind[0] if behind else None)


def _zip_member(head: bytes) -> Unpacker | None:
    """A deflated member is unpacked; a stored one is left to be read as it lies."""
    if len(head) < _ZIP_HEADER:
        return None
    method = int.from_bytes(head[8:10], "little")
    name = int.from_bytes(head[26:28], "little")
    skip = _ZIP_HEADER + name + int.from_bytes(head[28:30], "little")
    if method != _ZIP_DEFLATED or len(head) < skip:
        return None
    shown = head[_ZIP_HEADER : _ZIP_HEADER + name].decode("utf-8", "replace")[:80]
    return _bounded(f"zip member {shown}", zlib.decompressobj(-15), skip)
