"""`bench fleet`, part postgres: one ledger on PostgreSQL, shared by four outer halves.

Everything is real but the streams: two servers of Debian's PostgreSQL, one following the other and
waited for; four processes, each with leases, a copy and a thread that talks to the database.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from tidegate.bench.figures import Figure, at_least, at_most, report
from tidegate.bench.fleet import Options
from tidegate.bench.fleet_postgres_cluster import Cluster, cluster
from tidegate.bench.fleet_postgres_outer import (
    EDGE,
    PRINCIPALS,
    SLICE,
    WIDE,
    Did,
    Told,
    make_sent,
    read_sent,
)
from tidegate.clock import SystemClock
from tidegate.errors import LedgerError, TidegateError
from tidegate.ledger import Ledger, Sound, principal_scope, verify
from tidegate.ledger.state import State
from tidegate.ledger.store import Store
from tidegate.ledger.store_postgres import PostgresStore
from tidegate.ledger.verify import catch_up
from tidegate.models.cache import Progress
from tidegate.units import Bits

OUTERS: Final = tuple(f"outer-{n}" for n in range(1, 5))
SECONDS: Final = 20.0
EVENTS: Final = 100
_DIRECT: Final = 200
_LASTS: Final = 6.0
"""Seconds a lease lasts while holders are killed, so that others charge it within the bench."""


def measure(progress: Progress, options: Options) -> dict[str, Figure]:
    """Reservations a second, and charges forgotten. Raises TidegateError without PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="tg") as name, cluster() as servers:
        folder = Path(name)
        return _speed(progress, servers, folder) | _undercounted(progress, servers, folder)


class Outers:
    """The four processes, by name."""

    def __init__(self, servers: Cluster, table: str, folder: Path) -> None:
        self._servers, self._table, self.folder = servers, table, folder
        self.processes: dict[str, subprocess.Popen[str]] = {}
        for holder in OUTERS:
            make_sent(folder, holder)

    def start(self, holder: str, **told: Any) -> None:
        """Start one; `told` as `Told` has it."""
        all_of_it = Told(self._servers.urls, self._table, holder, str(self.folder), **told)
        command = [sys.executable, "-m", "tidegate.bench.fleet_postgres_outer"]
        self.processes[holder] = subprocess.Popen(  # noqa: S603
            [*command, msgspec.json.encode(all_of_it).decode()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def done(self) -> list[Did]:
        """What each did. Raises TidegateError if one failed."""
        said = [process.communicate()[0] for process in self.processes.values()]
        if any(process.returncode for process in self.processes.values()):
            raise TidegateError("an outer half's process failed")
        return [msgspec.json.decode(one, type=Did) for one in said]


def _speed(progress: Progress, servers: Cluster, folder: Path) -> dict[str, Figure]:
    table = "speed"
    store = PostgresStore(servers.urls, table, replicated=True)
    ledger = Ledger(store, WIDE, SystemClock())
    progress("reserving in the database itself", 0, _DIRECT)
    begun = time.monotonic()
    for n in range(_DIRECT):
        ledger.commit(ledger.reserve("user-0", EDGE, Bits(SLICE)), Bits(SLICE))
        progress("reserving in the database itself", n + 1, _DIRECT)
    direct = _DIRECT / (time.monotonic() - begun)
    before = store.tip().size
    outers = Outers(servers, table, folder)
    for holder in OUTERS:
        outers.start(holder, seconds=SECONDS)
    progress("reserving on leases", 0, 1)
    did = outers.done()
    progress("reserving on leases", 1, 1)
    speed = sum(one.reservations / one.seconds for one in did)
    count = sum(one.reservations for one in did)
    entries = store.tip().size - before
    _sound(store, folder)
    return {
        "pg_reservations_per_s": at_least(
            speed,
            5000,
            unit="1/s",
            n=count,
            how=f"four processes, {len(PRINCIPALS)} principals, {SLICE} bits each, all at once for"
            f" {SECONDS:.0f} s, on leases that a primary and its synchronous standby hold; both"
            " servers on the same cores",
        ),
        "pg_reserve_p99_us": report(
            max(one.slowest_us[1] for one in did),
            unit="us",
            n=count,
            how="a reservation, slowest process's 99th percentile",
        ),
        "pg_entries_per_reservation": report(
            entries / count,
            unit="1",
            n=entries,
            how="entries written to the log over reservations made meanwhile",
        ),
        "pg_without_leases_per_s": report(
            direct,
            unit="1/s",
            n=_DIRECT,
            how="one writer that reserves and commits in the database itself, nobody else there",
        ),
    }


def _undercounted(progress: Progress, servers: Cluster, folder: Path) -> dict[str, Figure]:
    table = "kills"
    PostgresStore(servers.urls, table).close()
    (folder / "kills").mkdir()
    outers = Outers(servers, table, folder / "kills")
    told: dict[str, Any] = {"seconds": 1e9, "pause": 0.002, "lasts": _LASTS}
    for holder in OUTERS:
        outers.start(holder, **told)
    worst, counts, checker = (
        0,
        [0, 0, 0],
        Checker(lambda: closing(PostgresStore(servers.urls, table)), outers.folder),
    )
    for n in range(EVENTS):
        progress("failovers and kills", n, EVENTS)
        time.sleep(secrets.randbelow(400) / 1000)
        kind = n % 3
        counts[kind] += 1
        holder = OUTERS[secrets.randbelow(len(OUTERS))]
        if kind == 0:
            servers.fail_over()
        else:
            process = outers.processes[holder]
            process.kill()
            process.wait()
            outers.start(holder, **told)
        if kind == 2:
            # The one that was just started dies at a statement of its own, and is started again.
            process = outers.processes[holder]
            process.kill()
            process.wait()
            outers.start(holder, **told, die_at=secrets.randbelow(40), die_how=secrets.randbelow(3))
            with suppress(subprocess.TimeoutExpired):
                outers.processes[holder].wait(20)
            outers.processes[holder].kill()
            outers.processes[holder].wait()
            outers.start(holder, **told)
        worst = max(worst, checker.missing())
    for process in outers.processes.values():
        process.kill()
        process.wait()
    worst = max(worst, checker.missing(patience=60))
    progress("failovers and kills", EVENTS, EVENTS)
    _sound(PostgresStore(servers.urls, table), outers.folder)
    crossed = int(read_sent(outers.folder, OUTERS).sum())
    return {
        "pg_undercounted": at_most(
            worst,
            0,
            unit="bit",
            n=EVENTS,
            how=f"worst principal's bits that crossed and the log does not count, after each of"
            f" {counts[0]} failovers, {counts[1]} kills of an outer half at a random moment and"
            f" {counts[2]} at a random statement; {crossed} bits crossed",
        )
    }


class Checker:
    """Holds the log against what crossed."""

    def __init__(self, log: Callable[[], AbstractContextManager[Store]], folder: Path) -> None:
        """`log` opens it anew; `folder` holds what crossed."""
        self._log = log
        self._folder = folder
        self._state = State(WIDE)

    def missing(self, patience: float = 30.0) -> int:
        """Bits that crossed and are not counted, of the principal who lacks most.

        Raises:
            LedgerError: the log could not be read within `patience` seconds.
        """
        until = time.monotonic() + patience
        while True:
            # Read first: what crosses from now on is not held against the log as it is now.
            sent = read_sent(self._folder, OUTERS)
            try:
                with self._log() as store:
                    self._state = catch_up(store, self._state)
            except LedgerError:
                # Entries that no standby had may have been read, and be gone: read all again.
                self._state = State(WIDE)
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
                continue
            accounts = [self._state.account(principal_scope(name)) for name in PRINCIPALS]
            counted = [account.spent + account.reserved for account in accounts]
            return max(0, *(int(out) - known for out, known in zip(sent, counted, strict=True)))


def _sound(store: PostgresStore, folder: Path) -> None:
    """Raise TidegateError unless the log verifies and extends what was acknowledged."""
    if not isinstance(verify(store, WIDE), Sound):
        raise TidegateError(f"the ledger of {folder.name} does not verify")
