"""Rows in a PostgreSQL table: for writers on several machines. Needs `pip install tidegate[vault]`.

An append is one statement. It writes only where the row before its first one has the expected
head, and the rows' numbers are the primary key: of two appends on one head the later waits for the
earlier and then fails. So there is one order whatever the isolation level, without a table lock,
and the writer learns who won by trying (https://www.postgresql.org/docs/current/index-unique-checks.html).

What has to hold of the server travels in the same statement: that it syncs to its disk and, if so
asked, that it waits for a standby (`synchronous_standby_names`). `synchronous_commit` is on
whatever the server's own setting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tidegate.ledger.errors import HeadMovedError, RolledBackError, UnreplicatedError
from tidegate.ledger.migrations import checked, migrate, version
from tidegate.ledger.state import EMPTY, Row, Tip
from tidegate.ledger.store_postgres_connect import Asked, DuplicateError, Primary

TIMEOUT_S = 10.0
"""An append takes milliseconds; a server that is silent for this long is not there."""

_TIP = "SELECT n, head FROM {table} ORDER BY n DESC LIMIT 1"

_READ = """SELECT entry, head FROM {table}
  WHERE n >= CAST(:start AS BIGINT) ORDER BY n LIMIT CAST(:most AS BIGINT)"""

_HEAD = "SELECT head FROM {table} WHERE n = CAST(:n AS BIGINT)"

READY = """SELECT 1
    WHERE current_setting('fsync') = 'on'
      AND (NOT CAST(:replicated AS BOOLEAN) OR current_setting('synchronous_standby_names') <> '')
      AND (CAST(:size AS BIGINT) = 0 OR EXISTS (SELECT FROM {table}
        WHERE n = CAST(:size AS BIGINT) - 1 AND head = CAST(:head AS BYTEA)))"""
"""One row where an append on top of `head` may go ahead."""

PUT = """INSERT INTO {table}
    SELECT CAST(:size AS BIGINT) + place - 1, entry, head
    FROM ready, unnest(CAST(:entries AS BYTEA[]), CAST(:heads AS BYTEA[]))
      WITH ORDINALITY AS row (entry, head, place)
    RETURNING 1"""

_APPEND = f"WITH ready AS ({READY}), put AS ({PUT}) SELECT count(*) FROM put"  # noqa: S608

_SAFE = """SELECT current_setting('fsync') = 'on',
    current_setting('synchronous_standby_names') <> ''"""


class PostgresStore:
    """A `Store` over one table of a database.

    Args:
        url: `postgresql://user:password@host:port/database`, over TLS with the system's roots; or
            `postgresql://user@/database?host=/folder/of/the/socket`. Several: the servers of one
            cluster, of which one takes writes.
        table: its name; made if it is not there.
        replicated: take a server only while it waits for a standby before it says "committed".
        extends: where the log is known to have been; one that does not go through there was rolled
            back and is refused. Asked at each new connection.
        timeout: seconds a server may be silent.

    Raises:
        ConfigError: a URL or the name is malformed.
        LedgerError: the server cannot be reached, does not write to its disk, or is the wrong one.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        table: str = "tidegate_ledger",
        *,
        replicated: bool = False,
        extends: Callable[[], Tip] = lambda: EMPTY,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self.table = checked(table)
        self._replicated = replicated
        self._extends = extends
        self._known = False
        urls = (url,) if isinstance(url, str) else tuple(url)
        self.primary = Primary(urls, timeout, self._welcome)
        if version(self.primary.run, table) == 0:
            migrate(self.primary, table)
        self._known = True
        self.primary.hang_up()
        self.tip()

    def close(self) -> None:
        """Hang up; every append that returned is on the server's disk."""
        self.primary.hang_up()

    def tip(self) -> Tip:
        rows = self._ask(_TIP)
        return Tip(rows[0][0] + 1, bytes(rows[0][1])) if rows else EMPTY

    def read(self, start: int, limit: int) -> Sequence[Row]:
        rows = self._ask(_READ, start=start, most=limit)
        return tuple(Row(bytes(entry), bytes(head)) for entry, head in rows)

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        ((written,),) = self._append(_APPEND, expected, rows)
        if written != len(rows):
            self._refuse()

    def _append(
        self, statement: str, expected: Tip, rows: Sequence[Row], **more: object
    ) -> list[tuple[Any, ...]]:
        try:
            return self._ask(
                statement,
                replicated=self._replicated,
                size=expected.size,
                head=expected.head,
                entries=[row.entry for row in rows],
                heads=[row.head for row in rows],
                **more,
            )
        except DuplicateError as error:
            raise _moved() from error

    def _refuse(self) -> None:
        """Say why an append wrote nothing. Raises HeadMovedError or UnreplicatedError."""
        self._assure(lambda statement, **values: self._ask(statement, **values))
        raise _moved()

    def _ask(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        return self.primary.run(statement.format(table=self.table), **values)

    def _welcome(self, ask: Asked) -> None:
        self._assure(ask)
        known = self._extends()
        if known.size and self._known:
            rows = ask(_HEAD.format(table=self.table), n=known.size - 1)
            if not rows or bytes(rows[0][0]) != known.head:
                raise RolledBackError(
                    f"The ledger lacks entries that were acknowledged: it does not go through entry"
                    f" {known.size - 1} as it was. Restore it, or `tidegate ledger reconcile`.",
                    entry=known.size - 1,
                )

    def _assure(self, ask: Asked) -> None:
        ((synced, waits),) = ask(_SAFE)
        if not synced:
            raise UnreplicatedError("The PostgreSQL server runs with fsync off: it loses entries.")
        if self._replicated and not waits:
            raise UnreplicatedError(
                "The PostgreSQL server waits for no standby: a failover would forget charges. Set"
                " synchronous_standby_names, or [ledger] replicated = false for a server that is"
                " never failed over."
            )


def _moved() -> HeadMovedError:
    return HeadMovedError("Another writer appended to the ledger first.")
