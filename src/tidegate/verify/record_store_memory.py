"""Segments in memory: for tests and simulations, with hooks that break writes on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum

from tidegate.errors import RecordError


class Fault(Enum):
    """The ways in which a write can fail, as its caller sees them: not at all apart."""

    NOT_PERSISTED = "failed and not persisted"
    PERSISTED = "failed but persisted"
    TORN = "failed with the first half persisted"


class MemoryStore:
    """A `Store` that lives as long as the object: a "restart" is a new writer over the same one.

    `fault` is asked before each write, with the number of writes so far, whether and how to fail.
    """

    def __init__(self, fault: Callable[[int], Fault | None] = lambda _: None) -> None:
        self._fault = fault
        self._lock = threading.Lock()
        self.data: dict[int, bytearray] = {}
        self.writes = 0

    def segments(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(sorted(self.data))

    def read(self, segment: int, offset: int, limit: int) -> bytes:
        with self._lock:
            if segment not in self.data:
                raise RecordError("There is no such segment of the record.", segment=segment)
            return bytes(self.data[segment][offset : offset + limit])

    def append(self, segment: int, offset: int, data: bytes) -> None:
        with self._lock:
            if len(self.data.get(segment, b"")) != offset:
                raise RecordError("Somebody else wrote to the record.", segment=segment)
            fault = self._tell()
            if fault is not Fault.NOT_PERSISTED:
                stored = data[: len(data) // 2] if fault is Fault.TORN else data
                self.data.setdefault(segment, bytearray()).extend(stored)
            if fault is not None:
                raise RecordError(f"The record's write {fault.value}.")

    def cut(self, segment: int, offset: int) -> None:
        with self._lock:
            fault = self._tell()
            if fault in (None, Fault.PERSISTED):
                del self.data[segment][offset:]
            if fault is not None:
                raise RecordError(f"The record's cut {fault.value}.")

    def _tell(self) -> Fault | None:
        self.writes += 1
        return self._fault(self.writes - 1)
