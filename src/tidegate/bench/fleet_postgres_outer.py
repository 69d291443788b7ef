"""One outer half's ledger in a process of its own, for benches that kill it.

Streams are stood in for by a loop: reserve a slice, let a part of it cross, commit. What crossed is
counted in a file that is mapped into memory, so that it outlives any kill: the truth that the
ledger is held against.
"""

from __future__ import annotations

import mmap
import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from tidegate.clock import SystemClock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.ledger import Budget, Budgets, SqliteStore
from tidegate.ledger.backup import CopyingStore
from tidegate.ledger.lease import LeaseDesk, LeaseTerms
from tidegate.ledger.lease_keeper import LeaseKeeper
from tidegate.ledger.store_postgres_shared import SharedPostgresStore
from tidegate.units import Bits

EDGE: Final = "inner→outside"
OWN: Final = "link"
PRINCIPALS: Final = tuple(f"user-{n}" for n in range(64))
SLICE: Final = 4096
"""Bits a stream reserves at a time, as on the link."""

WIDE: Final = Budgets(
    name="bench", total=Budget(lifetime=2**60), edges=((EDGE, Budget()),), principal=Budget()
)

SENT: Final = np.dtype(np.int64)
"""One counter a principal: bits that crossed."""


class Told(msgspec.Struct, frozen=True):
    """What the process is to do, as JSON on its command line."""

    urls: tuple[str, ...]
    table: str
    holder: str
    folder: str
    seconds: float
    pause: float = 0.0
    """Between two reservations."""
    die_at: int = -1
    """The statement at which it kills itself; below 0: none."""
    die_how: int = 0
    """0: before the statement is sent; 1: while it is under way; 2: once it was answered."""
    lasts: float = 30.0


class Did(msgspec.Struct, frozen=True):
    """What it says when it is done."""

    reservations: int
    refused: int
    seconds: float
    slowest_us: tuple[float, ...]
    """Times of `reserve` at the 50th, 99th and 100th percentile."""


class _DyingStore(SharedPostgresStore):
    """Kills its process at a statement."""

    def __init__(self, told: Told, copy: SqliteStore) -> None:
        self._asked = 0
        self._told = told
        super().__init__(told.urls, told.holder, told.table, extends=copy.tip, timeout=5.0)

    def _ask(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        self._asked += 1
        due = self._asked - 1 == self._told.die_at
        if due and self._told.die_how == 0:
            _die()
        if due and self._told.die_how == 1:
            threading.Timer(secrets.randbelow(3000) / 1e6, _die).start()
        answer = super()._ask(statement, **values)
        if due:
            _die()
        return answer


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sent_file(folder: Path, holder: str) -> Path:
    """Where `holder` counts what crossed by its hand."""
    return folder / f"{holder}.sent"


def make_sent(folder: Path, holder: str) -> None:
    """Counters at zero."""
    sent_file(folder, holder).write_bytes(bytes(SENT.itemsize * len(PRINCIPALS)))


def read_sent(folder: Path, holders: tuple[str, ...]) -> Any:
    """Bits that crossed, a principal, over `holders`."""
    return sum(np.fromfile(sent_file(folder, holder), SENT) for holder in holders)


def run(told: Told) -> Did:
    """Reserve, let cross and commit for as long as told."""
    folder, clock = Path(told.folder), SystemClock()
    copy = SqliteStore(folder / f"{told.holder}.copy")
    terms = LeaseTerms(lasts=told.lasts)
    desk = LeaseDesk(clock, lambda _: (EDGE,), OWN, terms)
    store = CopyingStore(_DyingStore(told, copy), copy)
    keeper = LeaseKeeper(desk, store, told.holder, WIDE, clock)
    while True:
        try:
            keeper.start()
            break
        except LedgerError:
            time.sleep(0.2)
    with sent_file(folder, told.holder).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        sent = np.frombuffer(mapped, SENT)
        did = _spend(told, desk, sent)
        del sent
    keeper.close()
    return did


def _spend(told: Told, desk: LeaseDesk, sent: Any) -> Did:
    done = refused = 0
    times: list[int] = []
    begun = time.monotonic()
    # Drawn ahead: the loop is to measure reserving.
    draws = np.frombuffer(secrets.token_bytes(4 << 16), np.uint16).reshape(-1, 2)
    while (elapsed := time.monotonic() - begun) < told.seconds:
        for who, bits in draws[:256].tolist() if told.pause else draws.tolist():
            principal, used = who % len(PRINCIPALS), bits % SLICE
            at = time.perf_counter_ns()
            try:
                number = desk.reserve(PRINCIPALS[principal], Bits(SLICE))
            except (BudgetExceededError, LedgerError):
                refused += 1
                time.sleep(0.002)
                continue
            times.append(time.perf_counter_ns() - at)
            # From here on it may be gone: counted as crossed before it is told to anybody.
            sent[principal] += used
            desk.commit(number, Bits(used))
            done += 1
            if told.pause:
                time.sleep(told.pause)
            elif not done % 256:
                # A stream's tokens come from the link: the loop does not starve the keeper.
                time.sleep(0.0005)
                if time.monotonic() - begun > told.seconds:
                    break
        draws = np.roll(draws, 257, axis=0)
    taken = np.percentile(np.array(times or [0]), (50, 99, 100)) / 1000
    return Did(done, refused, elapsed, tuple(float(x) for x in taken))


def main() -> None:
    """Do what the command line tells, and say what was done."""
    told = msgspec.json.decode(sys.argv[1], type=Told)
    sys.stdout.write(msgspec.json.encode(run(told)).decode() + "\n")


if __name__ == "__main__":
    main()
