"""Rows in memory: for tests and throw-away runs, with hooks that break writes on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from enum import Enum

from tidegate.transparency.errors import LogError, MovedError
from tidegate.transparency.store import EMPTY, Row, Tip


class Fault(Enum):
    """The two ways in which a write can fail, as its caller sees them: not at all apart."""

    NOT_PERSISTED = "failed and not persisted"
    PERSISTED = "failed but persisted"


class MemoryStore:
    """A `Store` that lives as long as the object: a "restart" is a new log over the same one.

    `fault` is asked before each write, with the number of writes so far, whether and how to fail.
    """

    def __init__(self, fault: Callable[[int], Fault | None] = lambda _: None) -> None:
        self._fault = fault
        self._writes = 0
        self._rows: list[Row] = []
        self._ids: dict[str, int] = {}
        self._notes: dict[str, str] = {}
        self._lock = threading.Lock()

    def tip(self) -> Tip:
        with self._lock:
            return self._tip()

    def read(self, start: int, limit: int) -> Sequence[bytes]:
        with self._lock:
            return tuple(row.entry for row in self._rows[start : start + limit])

    def hashes(self, numbers: Sequence[int]) -> Sequence[bytes]:
        with self._lock:
            if any(not 0 <= number < len(self._rows) for number in numbers):
                raise LogError(f"The log has {len(self._rows)} entries; one beyond was asked for.")
            return tuple(self._rows[number].hashes for number in numbers)

    def find(self, id: str) -> int | None:  # noqa: A002
        with self._lock:
            return self._ids.get(id)

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        with self._lock:
            taken = [row.id for row in rows if row.id is not None]
            if self._tip() != expected or any(name in self._ids for name in taken):
                raise MovedError("Another writer appended to the log first.")
            fault = self._broken()
            if fault is not Fault.NOT_PERSISTED:
                for row in rows:
                    if row.id is not None:
                        self._ids[row.id] = len(self._rows)
                    self._rows.append(row)
            self._fail(fault)

    def kept(self, name: str) -> str | None:
        with self._lock:
            return self._notes.get(name)

    def keep(self, name: str, expected: str | None, note: str) -> None:
        with self._lock:
            if self._notes.get(name) != expected:
                raise MovedError("Another writer kept a checkpoint first.")
            fault = self._broken()
            if fault is not Fault.NOT_PERSISTED:
                self._notes[name] = note
            self._fail(fault)

    def _tip(self) -> Tip:
        return Tip(len(self._rows), self._rows[-1].hashes[:32]) if self._rows else EMPTY

    def _broken(self) -> Fault | None:
        fault = self._fault(self._writes)
        self._writes += 1
        return fault

    @staticmethod
    def _fail(fault: Fault | None) -> None:
        if fault is not None:
            raise LogError(f"The log's write {fault.value}.")
