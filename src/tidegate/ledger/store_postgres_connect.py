"""Which of several PostgreSQL servers takes the writes, and one connection to it.

A cluster is named by one URL a server. Exactly one of them may be out of recovery; two are a split
brain, and then nothing is written until somebody has shut one of them down. A server of another
cluster, or on an older timeline than one that was used before (a primary that was replaced and came
back), is refused as well (https://www.postgresql.org/docs/current/continuous-archiving.html,
"Timelines"). The address decides nothing, and no clock is read.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pg8000.native

from tidegate.errors import ConfigError, LedgerError
from tidegate.ledger.errors import SplitBrainError, UnreplicatedError

UNIQUE_VIOLATION = "23505"

_WARNING = b"01000"
"""What a server says that was told to stop waiting for its standby: committed here, maybe nowhere
else."""

_FAILURES = (pg8000.native.Error, OSError, EOFError)

_WHO = """SELECT system_identifier,
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint,
    current_setting('fsync') = 'on'
  FROM pg_control_system()"""


class DuplicateError(Exception):
    """A row with this key is there; for the adapters here, never for callers."""


@dataclass(frozen=True, slots=True)
class Server:
    """Which cluster answered, and how many promotions its history counts."""

    system: int
    timeline: int


class Primary:
    """One connection to whichever server takes writes; made anew after any failure.

    Args:
        urls: one a server of the cluster.
        timeout: seconds a server may be silent.
        welcome: called with a way to ask, on each new connection, before anything else is.
    """

    def __init__(
        self, urls: Sequence[str], timeout: float, welcome: Callable[[Asked], None]
    ) -> None:
        if not urls:
            raise ConfigError("The ledger needs the URL of at least one PostgreSQL server.")
        self._places = tuple(arguments(url) for url in urls)
        self._timeout = timeout
        self._welcome = welcome
        self._lock = threading.RLock()
        self._db: pg8000.native.Connection | None = None
        self._at: dict[str, Any] = {}
        self._prepared: dict[str, Any] = {}
        self.server: Server | None = None
        """As last seen; a later one may not be older."""

    def run(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Carry out one statement, committed on return.

        Raises:
            DuplicateError: a key is taken; nothing was written.
            LedgerError: the server failed; a write may or may not have taken place.
        """
        with self._lock, self._failing_closed():
            return self._run(self._connected(), statement, values)

    def together(self, statements: Sequence[str]) -> None:
        """Carry out several in one transaction. Raises LedgerError."""
        with self._lock, self._failing_closed():
            db = self._connected()
            db.run("BEGIN")
            for statement in statements:
                db.run(statement)
            db.run("COMMIT")
            self._heed(db)

    def look_around(self) -> None:
        """Ask the other servers whether one of them takes writes too.

        Raises:
            SplitBrainError: one does.
        """
        with self._lock:
            others = [place for place in self._places if place != self._at]
        for place in others:
            with suppress(*_FAILURES):
                db = pg8000.native.Connection(timeout=self._timeout, **place)
                try:
                    if not _in_recovery(db):
                        self.hang_up()
                        raise _split()
                finally:
                    db.close()

    def hang_up(self) -> None:
        """End the connection; the next call makes another."""
        with self._lock:
            db, self._db = self._db, None
            self._prepared = {}
            if db is not None:
                with suppress(*_FAILURES):
                    db.close()

    def _run(
        self, db: pg8000.native.Connection, statement: str, values: dict[str, object]
    ) -> list[tuple[Any, ...]]:
        if statement not in self._prepared:
            self._prepared[statement] = db.prepare(statement)
        rows = self._prepared[statement].run(**values)
        self._heed(db)
        return [tuple(row) for row in rows or ()]

    @staticmethod
    def _heed(db: pg8000.native.Connection) -> None:
        told = [notice for notice in db.notices if notice.get(b"C") == _WARNING]
        db.notices.clear()
        if told:
            raise UnreplicatedError(
                "The PostgreSQL server stopped waiting for its standby; nobody knows whether what"
                " was written would survive it."
            )

    def _connected(self) -> pg8000.native.Connection:
        if self._db is None:
            db, place = self._find()
            try:
                self._greet(db)
                self._welcome(lambda statement, **values: self._run(db, statement, values))
            except BaseException:
                self._prepared = {}
                with suppress(*_FAILURES):
                    db.close()
                raise
            self._db, self._at = db, place
        return self._db

    def _find(self) -> tuple[pg8000.native.Connection, dict[str, Any]]:
        found: list[tuple[pg8000.native.Connection, dict[str, Any]]] = []
        failed: list[str] = []
        for place in self._places:
            try:
                db = pg8000.native.Connection(timeout=self._timeout, **place)
                if _in_recovery(db):
                    db.close()
                    failed.append("a standby")
                else:
                    found.append((db, place))
            except _FAILURES as error:
                failed.append(str(error))
        if len(found) == 1:
            return found[0]
        for db, _ in found:
            with suppress(*_FAILURES):
                db.close()
        if found:
            raise _split()
        raise LedgerError(f"No PostgreSQL server takes writes: {'; '.join(failed)}")

    def _greet(self, db: pg8000.native.Connection) -> None:
        # A cancelled wait for the standby would be reported as a commit; see `_heed`.
        for setting in ("synchronous_commit TO on", "statement_timeout TO 0"):
            db.run(f"SET {setting}")
        ((system, timeline, synced),) = db.run(_WHO)
        if not synced:
            raise UnreplicatedError("The PostgreSQL server runs with fsync off: it loses entries.")
        before = self.server
        if before is not None and before.system != system:
            raise SplitBrainError("The PostgreSQL server belongs to another cluster than before.")
        if before is not None and timeline < before.timeline:
            raise SplitBrainError(
                f"The PostgreSQL server is on timeline {timeline}; the ledger has moved on to"
                f" {before.timeline}. It was replaced: shut it down.",
                timeline=timeline,
                expected=before.timeline,
            )
        self.server = Server(system, timeline)

    @contextmanager
    def _failing_closed(self) -> Iterator[None]:
        try:
            yield
        except UnreplicatedError:
            self.hang_up()
            raise
        except _FAILURES as error:
            told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
            if told.get("C") == UNIQUE_VIOLATION:
                raise DuplicateError from error
            self.hang_up()
            raise LedgerError(f"The PostgreSQL server failed: {told.get('M') or error}") from error


Asked = Callable[..., list[tuple[Any, ...]]]
"""A statement with its values, carried out; as `Primary.run`."""


def _in_recovery(db: pg8000.native.Connection) -> bool:
    return bool(db.run("SELECT pg_is_in_recovery()")[0][0])


def _split() -> SplitBrainError:
    return SplitBrainError(
        "Two PostgreSQL servers take writes for this ledger. Shut down the one that was replaced."
    )


def arguments(url: str) -> dict[str, Any]:
    """What to connect with. Raises ConfigError for what is no PostgreSQL URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or not parts.username:
        raise ConfigError("A PostgreSQL URL looks like postgresql://user:password@host/database.")
    folder = parse_qs(parts.query).get("host", [None])[0]
    where: dict[str, Any] = {
        "user": unquote(parts.username),
        "database": unquote(parts.path.lstrip("/")) or "postgres",
        "password": unquote(parts.password) if parts.password else None,
    }
    port = parts.port or 5432
    if folder is not None:
        return where | {"unix_sock": f"{folder}/.s.PGSQL.{port}"}
    return where | {
        "host": parts.hostname or "localhost",
        "port": port,
        "ssl_context": ssl.create_default_context(),
    }
