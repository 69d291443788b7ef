"""A range coder with exact ends, in Python integers: the definition (spec/range-coder.md).

The message is one number, written byte by byte from the top. Every symbol narrows the interval the
number lies in to the symbol's share. This is what the C kernel is held to, byte for byte, and what
another implementer reads; the kernel is what runs on the link.
"""

from __future__ import annotations

WINDOW_BYTES = 6
FULL = 1 << 8 * WINDOW_BYTES
SMALL = FULL >> 8
"""An interval narrower than this puts out a byte: it keeps at least 40 bits."""

MAX_TOTAL = 1 << 32


def part(width: int, start: int, count: int, total: int) -> tuple[int, int]:
    """Offset and width of slots start … start + count - 1 of `total` in an interval of `width`.

    The last slot takes what the division leaves over, so that no number is without a meaning.
    """
    unit = width // total
    if start + count == total:
        return unit * start, width - unit * start
    return unit * start, unit * count


class RangeEncoder:
    """Symbols in, bytes out. The interval is [low, low + width), in units of the next six bytes."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._low = 0
        self._width = FULL
        self.started = False
        """Whether the current segment holds a symbol."""

    def put(self, start: int, count: int, total: int) -> None:
        """Narrow to slots start … start + count - 1 of `total`; probability count / total.

        Raises ValueError for an empty or impossible share.
        """
        if not (0 <= start < start + count <= total <= MAX_TOTAL):
            raise ValueError(f"no slots {start} + {count} of {total}")
        offset, self._width = part(self._width, start, count, total)
        self._move(self._low + offset)
        self.started = True
        while self._width < SMALL:
            self._bytes.append(self._low >> 40)
            self._low = self._low % SMALL << 8
            self._width <<= 8

    def settled(self) -> int:
        """How many bytes are waiting that no later symbol can change."""
        if self._low + self._width <= FULL:
            return len(self._bytes)
        # A carry may still come: it runs through bytes of 255 and ends in the one before them.
        return max(len(self._bytes.rstrip(b"\xff")) - 1, 0)

    def take(self, size: int) -> bytes:
        """Remove and return the first `size` waiting bytes, which must be settled."""
        taken = bytes(self._bytes[:size])
        del self._bytes[:size]
        return taken

    def finish(self) -> None:
        """End the segment with the fewest bytes after which everything stays in the interval."""
        for count in range(WINDOW_BYTES + 1):
            cell = FULL >> 8 * count
            value = -(-self._low // cell) * cell
            if value + cell <= self._low + self._width:
                break
        self._move(value)
        self._bytes += self._low.to_bytes(WINDOW_BYTES, "big")[:count]
        self._low, self._width, self.started = 0, FULL, False

    def _move(self, low: int) -> None:
        self._low = low % FULL
        if low >= FULL:
            last = len(self._bytes) - 1
            while self._bytes[last] == 0xFF:
                self._bytes[last] = 0
                last -= 1
            self._bytes[last] += 1


class RangeDecoder:
    """One segment's bytes in, symbols out, each as soon as no further byte can change it."""

    def __init__(self) -> None:
        self._code = 0  # the number minus low, unknown bytes taken as zero
        self._width = FULL
        self._missing = WINDOW_BYTES
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Append bytes. After the segment's end they may be anything."""
        self._bytes += data
        self._fill()

    def slots(self, total: int) -> tuple[int, int]:
        """First and last of `total` slots that the number can lie in, whatever bytes follow."""
        unit = self._width // total
        most = self._code + (1 << 8 * self._missing) - 1
        return min(self._code // unit, total - 1), min(most // unit, total - 1)

    def narrow(self, start: int, count: int, total: int) -> None:
        """Follow the encoder's `put` of a symbol that is determined."""
        offset, self._width = part(self._width, start, count, total)
        self._code -= offset
        while self._width < SMALL:
            self._code <<= 8
            self._width <<= 8
            self._missing += 1
            self._fill()

    def copy(self) -> RangeDecoder:
        """An independent decoder in the same state, to try with."""
        twin = RangeDecoder()
        twin._code, twin._width, twin._missing = self._code, self._width, self._missing
        twin._bytes = self._bytes[:]
        return twin

    def _fill(self) -> None:
        while self._missing and self._bytes:
            self._missing -= 1
            self._code += self._bytes.pop(0) << 8 * self._missing
