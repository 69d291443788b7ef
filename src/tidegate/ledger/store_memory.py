"""Rows in memory: for tests and throw-away runs, with hooks that break writes on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tidegate.errors import LedgerError
from tidegate.ledger.errors import HeadMovedError
from tidegate.ledger.state import EMPTY, Row, Tip
from tidegate.transparency.store_memory import Fault


class MemoryStore:
    """A `Store` that lives as long as the object: a "restart" is a new ledger over the same one.

    `fault` is asked before each append, with the number of appends so far, whether and how to fail.
    """

    def __init__(self, fault: Callable[[int], Fault | None] = lambda _: None) -> None:
        self._fault = fault
        self._appends = 0
        self._rows: list[Row] = []
        self._lock = threading.Lock()

    def tip(self) -> Tip:
        with self._lock:
            return self._tip()

    def read(self, start: int, limit: int) -> Sequence[Row]:
        with self._lock:
            return tuple(self._rows[start : start + limit])

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        with self._lock:
            if self._tip() != expected:
                raise HeadMovedError("Another writer appended to the ledger first.")
            fault = self._fault(self._appends)
            self._appends += 1
            if fault is not Fault.NOT_PERSISTED:
                self._rows.extend(rows)
            if fault is not None:
                raise LedgerError(f"The ledger's write {fault.value}.")

    def _tip(self) -> Tip:
        return Tip(len(self._rows), self._rows[-1].head) if self._rows else EMPTY
