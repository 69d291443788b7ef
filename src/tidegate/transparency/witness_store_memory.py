"""A witness's memory that ends with the process: for tests, with hooks that break writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tidegate.transparency.errors import MovedError, WitnessError
from tidegate.transparency.store_memory import Fault
from tidegate.transparency.witness_store import START, Mark, Seen, next_mark


class MemoryWitnessStore:
    """A `WitnessStore` that lives as long as the object; `fault` as in `store_memory`."""

    def __init__(self, fault: Callable[[int], Fault | None] = lambda _: None) -> None:
        self._fault = fault
        self._writes = 0
        self._mark = self._before = START
        self._seen: dict[str, Seen] = {}
        self._accusations: list[tuple[str, str, str]] = []
        self._lock = threading.Lock()

    def mark(self) -> Mark:
        with self._lock:
            return self._mark

    def before(self) -> Mark:
        with self._lock:
            return self._before

    def seen(self, origin: str) -> Seen | None:
        with self._lock:
            return self._seen.get(origin)

    def all(self) -> Sequence[Seen]:
        with self._lock:
            return tuple(self._seen[origin] for origin in sorted(self._seen))

    def keep(self, expected: Mark, seen: Seen) -> None:
        with self._lock:
            if self._mark != expected:
                raise MovedError("Another request was first.")
            fault = self._fault(self._writes)
            self._writes += 1
            if fault is not Fault.NOT_PERSISTED:
                self._before, self._mark = expected, next_mark(expected, seen)
                self._seen[seen.origin] = seen
            if fault is not None:
                raise WitnessError(f"The witness's write {fault.value}.")

    def accuse(self, origin: str, note: str) -> None:
        with self._lock:
            found = (origin, self._seen[origin].note, note)
            if found not in self._accusations:
                self._accusations.append(found)

    def accusations(self) -> Sequence[tuple[str, str, str]]:
        with self._lock:
            return tuple(self._accusations)
