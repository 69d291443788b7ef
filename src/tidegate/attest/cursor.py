"""Reading binary evidence from front to back, never past its end."""

from __future__ import annotations

from typing import Literal

from tidegate.attest.errors import EvidenceError


class Cursor:
    """A place in a piece of evidence. Every read names the field, for the error that may follow."""

    __slots__ = ("_at", "_data", "_kind")

    def __init__(self, kind: str, data: bytes) -> None:
        self._kind = kind
        self._data = data
        self._at = 0

    @property
    def at(self) -> int:
        """Bytes read so far."""
        return self._at

    @property
    def left(self) -> int:
        """Bytes still unread."""
        return len(self._data) - self._at

    def take(self, size: int, field: str) -> bytes:
        """The next `size` bytes. Raises EvidenceError where fewer are left."""
        if size > self.left:
            raise self.error(field, f"{size} bytes at offset {self._at}, {self.left} are left")
        start, self._at = self._at, self._at + size
        return self._data[start : self._at]

    def number(self, size: int, field: str, order: Literal["little", "big"] = "little") -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size, field), order)

    def exactly(self, expected: bytes, field: str) -> None:
        """Bytes that can be nothing else. Raises EvidenceError where they are."""
        found = self.take(len(expected), field)
        if found != expected:
            raise self.error(field, f"{found.hex()} where only {expected.hex()} is known")

    def within(self, size: int, field: str) -> Cursor:
        """A cursor over the next `size` bytes alone, which this one then has passed."""
        return Cursor(self._kind, self.take(size, field))

    def rest(self) -> bytes:
        """Everything still unread."""
        return self.take(self.left, "rest")

    def end(self, field: str = "end") -> None:
        """Raises EvidenceError where bytes are left."""
        if self.left:
            raise self.error(field, f"{self.left} bytes too many at offset {self._at}")

    def padding(self, field: str = "padding") -> None:
        """Takes what is left, which may be zeros alone: buffers are handed over at full size."""
        if any(self._data[self._at :]):
            raise self.error(field, f"bytes other than zero after offset {self._at}")
        self._at = len(self._data)

    def error(self, field: str, reason: str) -> EvidenceError:
        """The error to raise for a field that was read and makes no sense."""
        return EvidenceError(self._kind, field, reason)
