"""Several holders over rows in memory: for tests and throw-away runs, with the same fault hooks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from tidegate.errors import LedgerError
from tidegate.ledger.errors import FencedError
from tidegate.ledger.lease_port import Claim, Seen, claimed
from tidegate.ledger.state import Row, Tip
from tidegate.ledger.store_memory import MemoryStore
from tidegate.transparency.store_memory import Fault


@dataclass(slots=True)
class MemoryCluster:
    """What all holders see. `down` makes every call fail, as a database that is gone does.

    `fault` is asked before each append or beat, with how many there were, whether and how to fail.
    """

    fault: Callable[[int], Fault | None] = lambda _: None
    rows: MemoryStore = field(default_factory=MemoryStore)
    holders: dict[str, Seen] = field(default_factory=dict)
    claims: dict[int, Claim] = field(default_factory=dict)
    down: bool = False
    split: LedgerError | None = None
    delay: Callable[[int], bool] = lambda _: False
    """Whether an append is given up on while it is under way: it takes place when it `lands`."""
    late: list[Callable[[], None]] = field(default_factory=list)
    calls: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def land(self) -> None:
        """Carry out what is under way, where the log still ends at its expected head."""
        writes, self.late[:] = self.late[:], []
        for write in writes:
            with suppress(LedgerError):
                write()


class SharedMemoryStore:
    """`lease_port.SharedStore` over a `MemoryCluster`, as one holder."""

    def __init__(self, cluster: MemoryCluster, holder: str) -> None:
        self._all = cluster
        self._name = holder
        self._fence = 0

    def tip(self) -> Tip:
        self._reach()
        return self._all.rows.tip()

    def read(self, start: int, limit: int) -> Sequence[Row]:
        self._reach()
        return self._all.rows.read(start, limit)

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        with self._all.lock:
            if self._all.delay(self._all.calls):
                self._all.calls += 1
                self._all.late.append(partial(self._put, self._fence, expected, tuple(rows)))
                raise LedgerError("The ledger's write timed out.")
            fault = self._strike()
            if fault is not Fault.NOT_PERSISTED:
                self._put(self._fence, expected, rows)
            if fault is not None:
                raise LedgerError(f"The ledger's write {fault.value}.")

    def join(self) -> int:
        self._reach()
        with self._all.lock:
            before = self._all.holders.get(self._name, Seen(self._name, 0, 0, hungry=False))
            self._fence = before.fence + 1
            self._all.holders[self._name] = replace(before, fence=self._fence, hungry=False)
            return self._fence

    def beat(self, *, hungry: bool) -> Sequence[Seen]:
        with self._all.lock:
            fault = self._strike()
            self._beaten(self._fence, hungry)
            if fault is not None:
                raise LedgerError(f"The ledger's write {fault.value}.")
            return tuple(self._all.holders.values())

    def holders(self) -> Sequence[Seen]:
        self._reach()
        with self._all.lock:
            return tuple(self._all.holders.values())

    def claims(self) -> Sequence[Claim]:
        self._reach()
        with self._all.lock:
            return tuple(self._all.claims.values())

    def fence_off(self, seen: Seen) -> bool:
        self._reach()
        with self._all.lock:
            now = self._all.holders[seen.name]
            if (now.fence, now.beats) != (seen.fence, seen.beats):
                return False
            self._all.holders[seen.name] = replace(now, fence=now.fence + 1)
            return True

    def look_around(self) -> None:
        if self._all.split is not None:
            raise self._all.split

    def _reach(self) -> None:
        if self._all.down:
            raise LedgerError("The database is down.")

    def _strike(self) -> Fault | None:
        self._reach()
        self._all.calls += 1
        return self._all.fault(self._all.calls - 1)

    def _put(self, fence: int, expected: Tip, rows: Sequence[Row]) -> None:
        self._beaten(fence, None)
        self._all.rows.append(expected, rows)
        opened, settled = claimed(expected.size, rows)
        for n in opened:
            self._all.claims[n] = Claim(n, self._name, fence)
        for n in settled:
            self._all.claims.pop(n, None)

    def _beaten(self, fence: int, hungry: bool | None) -> None:
        now = self._all.holders.get(self._name)
        if now is None or now.fence != fence:
            raise FencedError(f"The holder {self._name!r} was fenced off.", holder=self._name)
        told = now.hungry if hungry is None else hungry
        self._all.holders[self._name] = replace(now, beats=now.beats + 1, hungry=told)
