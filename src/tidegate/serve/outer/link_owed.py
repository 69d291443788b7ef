"""Pulls that wait for their frames, and bytes that nobody asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from tidegate.units import Bits, bits_of


@dataclass(slots=True)
class Pulled:
    """A pull that was sent: its size in bytes, the last step before it, the last echo before it."""

    size: int
    after: int
    echoed: int
    timer: asyncio.TimerHandle


class OwedFrames:
    """Oldest first. Bytes are counted as they are read, before anything else looks at them."""

    def __init__(self) -> None:
        self._pulls: deque[Pulled] = deque()
        self._unframed = 0

    def __len__(self) -> int:
        return len(self._pulls)

    def add(self, pull: Pulled) -> None:
        """A pull was sent."""
        self._pulls.append(pull)

    def read(self, size: int) -> None:
        """`size` bytes came in."""
        self._unframed += size

    def take(self) -> Pulled:
        """A frame answered the oldest pull."""
        pull = self._pulls.popleft()
        pull.timer.cancel()
        self._unframed -= pull.size
        return pull

    def oldest_after(self) -> int | None:
        """The last step before the oldest pull."""
        return self._pulls[0].after if self._pulls else None

    def end(self) -> Bits:
        """The connection is gone: forget the pulls; returns the bits that came beyond them."""
        beyond = max(0, self._unframed - sum(pull.size for pull in self._pulls))
        self.stop()
        self._pulls.clear()
        self._unframed = 0
        return bits_of(beyond)

    def stop(self) -> None:
        """No frame is late any more."""
        for pull in self._pulls:
            pull.timer.cancel()
