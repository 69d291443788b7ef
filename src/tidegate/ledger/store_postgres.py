"""Rows in a PostgreSQL table: for writers on several machines. Needs `pip install tidegate[vault]`.

An append takes the table's lock, looks where the log ends, and writes only on top of that. The
server has to write to the disk what it says is committed: one that runs with `fsync` off is
refused, and `synchronous_commit` is on whatever the server's own setting.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pg8000.dbapi

from tidegate.errors import ConfigError, LedgerError
from tidegate.ledger.errors import HeadMovedError
from tidegate.ledger.state import EMPTY, Row, Tip

TIMEOUT_S = 10.0
"""An append takes milliseconds; a server that is silent for this long is not there."""

_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,40}")

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS {table} (
        n BIGINT PRIMARY KEY CHECK (n >= 0),
        entry BYTEA NOT NULL,
        head BYTEA NOT NULL CHECK (length(head) = 32)
    )""",
    """CREATE OR REPLACE FUNCTION {table}_is_final() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the log is append-only'; END $$""",
    """CREATE OR REPLACE TRIGGER {table}_stays
        BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        EXECUTE FUNCTION {table}_is_final()""",
)


class PostgresStore:
    """A `Store` over one table of a database.

    Args:
        url: `postgresql://user:password@host:port/database`, over TLS with the system's roots; or
            `postgresql://user@/database?host=/folder/of/the/socket`.
        table: its name; made if it is not there.

    Raises:
        ConfigError: the URL or the name is malformed.
        LedgerError: the server cannot be reached, or does not write to its disk.
    """

    def __init__(self, url: str, table: str = "tidegate_ledger") -> None:
        if not _TABLE.fullmatch(table):
            raise ConfigError("A table's name is lower-case letters, digits and underscores.")
        self._where = _arguments(url)
        self._table = table
        self._lock = threading.Lock()
        self._db: pg8000.dbapi.Connection | None = None
        with self._lock, self._transaction() as cursor:
            cursor.execute("SHOW fsync")
            if cursor.fetchone()[0] != "on":
                raise LedgerError("The PostgreSQL server runs with fsync off: it loses entries.")
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (table,))
            for statement in _SCHEMA:
                cursor.execute(statement.format(table=table))

    def close(self) -> None:
        """Hang up; every append that returned is on the server's disk."""
        with self._lock:
            self._hang_up()

    def tip(self) -> Tip:
        with self._lock, self._transaction() as cursor:
            return self._tip(cursor)

    def read(self, start: int, limit: int) -> Sequence[Row]:
        with self._lock, self._transaction() as cursor:
            cursor.execute(
                f"SELECT entry, head FROM {self._table} WHERE n >= %s ORDER BY n LIMIT %s",  # noqa: S608
                (start, limit),
            )
            return tuple(Row(bytes(entry), bytes(head)) for entry, head in cursor.fetchall())

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        with self._lock, self._transaction() as cursor:
            cursor.execute(f"LOCK TABLE {self._table} IN EXCLUSIVE MODE")
            if self._tip(cursor) != expected:
                raise HeadMovedError("Another writer appended to the ledger first.")
            cursor.executemany(
                f"INSERT INTO {self._table} VALUES (%s, %s, %s)",  # noqa: S608
                [(expected.size + i, row.entry, row.head) for i, row in enumerate(rows)],
            )

    def _tip(self, cursor: Any) -> Tip:
        cursor.execute(f"SELECT n, head FROM {self._table} ORDER BY n DESC LIMIT 1")  # noqa: S608
        last = cursor.fetchone()
        return EMPTY if last is None else Tip(last[0] + 1, bytes(last[1]))

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Commits on leaving; after any failure of the server the next call connects anew."""
        try:
            if self._db is None:
                self._db = pg8000.dbapi.connect(timeout=TIMEOUT_S, **self._where)
                start = self._db.cursor()
                start.execute("SET synchronous_commit TO on")
                self._db.commit()
            cursor = self._db.cursor()
            try:
                yield cursor
            except (HeadMovedError, LedgerError):
                self._db.rollback()
                raise
            self._db.commit()
        except (pg8000.dbapi.Error, OSError, EOFError) as error:
            self._hang_up()
            raise LedgerError(f"The PostgreSQL server failed: {error}") from error

    def _hang_up(self) -> None:
        if self._db is not None:
            with suppress(pg8000.dbapi.Error, OSError):
                self._db.close()
            self._db = None


def _arguments(url: str) -> dict[str, Any]:
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
