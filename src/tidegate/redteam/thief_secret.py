"""What the thief steals, and how his receiver knows it again, wherever in a frame it arrives. Pure.

The secret is drawn from a hash, so that the receiver can tell bytes that arrived from bytes that
only look like them. A *piece* carries its place: a mark, an offset, and bytes from there on.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from typing import Final

SIZE: Final = 1 << 23
"""Bytes of the secret: more than any attack has time for."""

MARK: Final = b"\xa7\x1f\xc3"
HEADER: Final = len(MARK) + 4
"""Bytes of a piece that say where it belongs."""


@cache
def secret() -> bytes:
    """All of it."""
    return hashlib.shake_128(b"what a thief in the namespace takes away").digest(SIZE)


def piece(of: bytes, offset: int, length: int) -> bytes:
    """A piece of at most `length` bytes, its header included, from `offset` modulo the size."""
    start = offset % (len(of) - length)
    return MARK + start.to_bytes(4, "big") + of[start : start + length - HEADER]


class Puzzle:
    """The receiver's: which bytes of the secret have arrived."""

    def __init__(self) -> None:
        self._secret = secret()
        self._have = bytearray(SIZE)

    def bytes_known(self) -> int:
        """Distinct bytes that arrived and are right."""
        return self._have.count(1)

    def stream(self, offset: int, data: bytes) -> None:
        """Bytes that are claimed to be the secret's from `offset` on."""
        ours = self._secret[offset : offset + len(data)]
        right = len(ours) if data.startswith(ours) else _alike(data, ours)
        self._have[offset : offset + right] = b"\1" * right

    def frame(self, frame: bytes) -> None:
        """Every piece in a frame, whatever stands before it."""
        at = frame.find(MARK)
        while at >= 0 and len(frame) > at + HEADER:
            start = at + HEADER
            self.stream(int.from_bytes(frame[at + len(MARK) : start], "big"), frame[start:])
            at = frame.find(MARK, start)


def information(symbols: int, wrong: int, alphabet: int) -> float:
    """Bits that `symbols` of an even choice among `alphabet` carry when `wrong` were misread.

    Those of a channel whose mistakes are spread evenly (Cover and Thomas, Elements of Information
    Theory, section 7.2).
    """
    if symbols == 0 or alphabet < 2:
        return 0.0
    share = wrong / symbols
    if share >= 1 - 1 / alphabet:
        return 0.0
    lost = share * math.log2(alphabet - 1)
    for part in (share, 1 - share):
        lost -= part * math.log2(part) if part else 0.0
    return symbols * max(0.0, math.log2(alphabet) - lost)


def _alike(one: bytes, other: bytes) -> int:
    """Length of the common start."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
