"""How HTTP frames what it carries: chunked transfer (RFC 9112, 7.1) and multipart (RFC 2046, 5.1).

Framing is taken off; what stands in it (chunk extensions, trailers, part headers) is kept `around`,
so that nothing can be said there unseen. What breaks the rules ends the frame, and whatever follows
is read as it lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from tidegate.scan.windows import find

LONGEST_HEAD: Final = 1 << 14
_VERSION: Final = b"HTTP/1."
_HEAD_END: Final = b"\r\n\r\n"
_CHUNKED: Final = re.compile(rb"\ntransfer-encoding:[^\r\n]*\bchunked[ \t]*\r", re.I)
_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(;[^\r\n]*)?\r\n")
_LONGEST_LINE: Final = 1 << 12
_PARTS: Final = re.compile(
    rb"--([\w'()+,./:=?-]{1,70})(\r?\n)(?:[\w-]+:[^\n]*\n){0,3}?content-[\w-]+:", re.I
)
_GLANCE: Final = 1 << 10


class Body(NamedTuple):
    """Where in a block an HTTP message's body begins, and whether it comes in chunks."""

    start: int
    chunked: bool


def bodies(block: bytes) -> tuple[list[Body], int]:
    """Bodies whose headers end in the block, and where a header begins that it cuts off."""
    found: list[Body] = []
    at, stop = find(block, _VERSION), 0
    while at >= 0:
        if 0 <= stop <= at:
            stop = block.find(_HEAD_END, at)
        if stop < 0 and len(block) - at < LONGEST_HEAD:
            return found, at
        if 0 <= stop - at < LONGEST_HEAD:
            chunked = _CHUNKED.search(block, at, stop + 1) is not None
            found.append(Body(stop + len(_HEAD_END), chunked))
            at = stop
        at = find(block, _VERSION, at + 1)
    return found, len(block)


class Frame:
    """What frames have in common.

    `around`: what stands in the framing, for whoever looks at it to take; `begins`: whether the
    piece that was just given begins something new.
    """

    def __init__(self) -> None:
        self.around = bytearray()
        self.begins = False
        self._held = b""
        self._rest: bytes | None = None

    def rest(self) -> bytes | None:
        """Bytes behind the frame's end; None while it goes on."""
        return self._rest

    def left(self) -> bytes:
        """Bytes fed that were neither given nor are behind the end, when no more will come."""
        return self._held

    def steps(self, data: bytes) -> Iterator[bytes]:
        """What the frame carries, in pieces."""
        raise NotImplementedError


class Chunks(Frame):
    """A body in chunks."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0
        self._trailers = False

    def steps(self, data: bytes) -> Iterator[bytes]:
        data, at = self._held + data, 0
        pieces: list[bytes] = []
        while at < len(data) and self._rest is None:
            if self._ahead > 2:
                piece = data[at : at + self._ahead - 2]
                pieces.append(piece)
                at, self._ahead = at + len(piece), self._ahead - len(piece)
            elif self._ahead:
                if len(data) - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    self._rest = data[at:]
                    break
                at, self._ahead = at + 2, 0
            else:
                taken = self._line(data, at)
                if not taken:
                    break
                at += taken
        self._held = data[at:] if self._rest is None else b""
        yield b"".join(pieces)

    def _line(self, data: bytes, at: int) -> int:
        """Takes a line of framing that begins at `at`; its length, 0 where more is needed."""
        end = data.find(b"\r\n", at, at + _LONGEST_LINE) + 2
        size = None if self._trailers else _SIZE.match(data, at, end)
        if end < 2 and len(data) - at < _LONGEST_LINE:
            return 0
        if end < 2 or (size is None and not self._trailers):
            self._rest = data[at:]
            return 0
        if size is None:
            self.around += data[at:end]
            if end == at + 2:
                self._rest = data[end:]
            return end - at
        self.around += size.group(2) or b""
        length = int(size.group(1), 16)
        self._trailers = length == 0
        self._ahead = length + 2 if length else 0
        return end - at


class Parts(Frame):
    """Parts between boundaries. Each begins something new."""

    def __init__(self, boundary: bytes, line_end: bytes) -> None:
        super().__init__()
        self._boundary = line_end + b"--" + boundary
        self._line_end = line_end
        # A boundary is a line of its own; the end of the line before the first was not seen here.
        self._held = line_end
        self._in_body = True

    def steps(self, data: bytes) -> Iterator[bytes]:
        data, at = self._held + data, 0
        while True:
            if not self._in_body:
                taken = self._headers(data, at)
                if not taken:
                    break
                at += taken
            stop = data.find(self._boundary, at)
            if stop < 0:
                stop = max(at, len(data) - len(self._boundary) + 1)
                yield data[at:stop]
                at = stop
                break
            yield data[at:stop]
            at, self._in_body = stop + len(self._boundary), False
        self._held = data[at:] if self._rest is None else b""

    def _headers(self, data: bytes, at: int) -> int:
        """Takes the headers behind a boundary; their length, 0 where more is needed or all ends."""
        if data.startswith(b"--", at):
            self._rest = data[at + 2 :]
            return 0
        mark = 2 * self._line_end
        end = data.find(mark, at, at + LONGEST_HEAD)
        if end < 0 and len(data) - at < LONGEST_HEAD:
            return 0
        stop = end + len(mark) if end >= 0 else at + LONGEST_HEAD
        self.around += data[at:stop]
        self._in_body = self.begins = True
        return stop - at


def chunks(body: bytes) -> Chunks | None:
    """For a body whose headers say that it comes in chunks; None where it does not."""
    return Chunks() if _SIZE.match(body) else None


def parts(head: bytes) -> Parts | None:
    """For what begins with a boundary and a part's headers; None for all else."""
    found = _PARTS.match(head, 0, _GLANCE) if head.startswith(b"--") else None
    return Parts(found.group(1), found.group(2)) if found else None
