"""Rows in one SQLite file: the default store.

`synchronous=FULL` with `journal_mode=PERSIST`, not WAL, for three reasons. SQLite before 3.51.3
can corrupt a WAL database when two connections write and checkpoint at the same instant (the
"WAL-reset" bug, https://www.sqlite.org/wal.html), and Pythons in use carry older libraries. A
rollback journal leaves the whole ledger in one file. And PERSIST, unlike DELETE, commits by
overwriting and syncing the journal's header, so durability does not hang on a directory entry that
FULL does not sync. The price is about three times WAL's time a commit (`spec/ledger.md`); reserving
for many tokens at once and batches (`Ledger.record`) keep it off the hot path.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tidegate.disk import sync_folder
from tidegate.errors import LedgerError
from tidegate.ledger.errors import HeadMovedError
from tidegate.ledger.state import EMPTY, Row, Tip

APPLICATION_ID = 0x54474C31
"""`TGL1`: marks the file as a ledger, so that another database is refused rather than changed."""

BUSY_TIMEOUT_S = 10.0
"""Another process holds the file for milliseconds; after this long something is wrong."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    n INTEGER PRIMARY KEY CHECK (n >= 0),
    entry BLOB NOT NULL,
    head BLOB NOT NULL CHECK (length(head) = 32)
) STRICT;
CREATE TRIGGER IF NOT EXISTS entries_are_final BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_are_kept BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
PRAGMA application_id = {APPLICATION_ID};
COMMIT;
"""


class SqliteStore:
    """A `Store` over one file, in a folder that exists, that processes of one machine may share.

    Raises:
        LedgerError: on opening, the file is no ledger or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        with self._failing_closed():
            # SQLite would create the file readable by everybody: the log names principals.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            sync_folder(path.parent)
            self._db = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            known = self._db.execute("PRAGMA application_id").fetchone()[0]
            tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if known != APPLICATION_ID and tables:
                self._db.close()
                raise LedgerError(f"{path.name} is a database, but not a Tidegate ledger.")
            self._db.execute("PRAGMA journal_mode = PERSIST")
            self._db.execute("PRAGMA synchronous = FULL")
            if known != APPLICATION_ID:
                self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; every append that returned is already on disk."""
        with self._lock:
            self._db.close()

    def tip(self) -> Tip:
        with self._lock, self._failing_closed():
            return self._tip()

    def read(self, start: int, limit: int) -> Sequence[Row]:
        with self._lock, self._failing_closed():
            found = self._db.execute(
                "SELECT entry, head FROM entries WHERE n >= ? ORDER BY n LIMIT ?", (start, limit)
            )
            return tuple(Row(*row) for row in found)

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        with self._lock, self._failing_closed():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if self._tip() != expected:
                    raise HeadMovedError("Another writer appended to the ledger first.")
                self._db.executemany(
                    "INSERT INTO entries VALUES (?, ?, ?)",
                    [(expected.size + i, row.entry, row.head) for i, row in enumerate(rows)],
                )
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    with suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")

    def _tip(self) -> Tip:
        last = self._db.execute("SELECT n, head FROM entries ORDER BY n DESC LIMIT 1").fetchone()
        return EMPTY if last is None else Tip(last[0] + 1, last[1])

    @contextmanager
    def _failing_closed(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"The ledger's file cannot be used: {error}") from error
