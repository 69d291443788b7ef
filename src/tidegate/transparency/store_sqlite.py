"""Rows in one SQLite file: the default store.

`synchronous=FULL` with `journal_mode=PERSIST`, for the reasons given in the ledger's store: no bug
of SQLite's write-ahead log in older libraries, one file to copy, and durability that does not hang
on a directory entry.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tidegate.disk import sync_folder
from tidegate.transparency.errors import LogError, MovedError
from tidegate.transparency.store import EMPTY, Row, Tip

APPLICATION_ID = 0x54475431
"""`TGT1`: marks the file as a log, so that another database is refused rather than changed."""

BUSY_TIMEOUT_S = 10.0
"""Another process holds the file for milliseconds; after this long something is wrong."""

_ASKED_AT_ONCE = 500
"""SQLite takes at least 999 parameters in a statement."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    n INTEGER PRIMARY KEY CHECK (n >= 0),
    entry BLOB NOT NULL,
    id TEXT UNIQUE,
    hashes BLOB NOT NULL CHECK (length(hashes) > 0 AND length(hashes) % 32 = 0)
) STRICT;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, note TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS entries_are_final BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS entries_are_kept BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
PRAGMA application_id = {APPLICATION_ID};
COMMIT;
"""


class SqliteStore:
    """A `Store` over one file, in a folder that exists, that processes of one machine may share.

    Raises:
        LogError: on opening, the file is no log or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        with self._failing_closed():
            # SQLite would create the file readable by everybody: the log names people.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            sync_folder(path.parent)
            self._db = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            known = self._db.execute("PRAGMA application_id").fetchone()[0]
            tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if known != APPLICATION_ID and tables:
                self._db.close()
                raise LogError(f"{path.name} is a database, but not a Tidegate log.")
            self._db.execute("PRAGMA journal_mode = PERSIST")
            self._db.execute("PRAGMA synchronous = FULL")
            if known != APPLICATION_ID:
                self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; every write that returned is already on disk."""
        with self._lock:
            self._db.close()

    def tip(self) -> Tip:
        with self._lock, self._failing_closed():
            return self._tip()

    def read(self, start: int, limit: int) -> Sequence[bytes]:
        with self._lock, self._failing_closed():
            found = self._db.execute(
                "SELECT entry FROM entries WHERE n >= ? ORDER BY n LIMIT ?", (start, limit)
            )
            return tuple(row[0] for row in found)

    def hashes(self, numbers: Sequence[int]) -> Sequence[bytes]:
        with self._lock, self._failing_closed():
            found: dict[int, bytes] = {}
            for start in range(0, len(numbers), _ASKED_AT_ONCE):
                part = numbers[start : start + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT n, hashes FROM entries WHERE n IN ({marks})"  # noqa: S608  marks only
                found.update(self._db.execute(query, tuple(part)))
            missing = [number for number in numbers if number not in found]
            if missing:
                raise LogError(f"The log has no entry {missing[0]}.", entry=missing[0])
            return tuple(found[number] for number in numbers)

    def find(self, id: str) -> int | None:  # noqa: A002
        with self._lock, self._failing_closed():
            row = self._db.execute("SELECT n FROM entries WHERE id = ?", (id,)).fetchone()
            return None if row is None else int(row[0])

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        with self._writing():
            if self._tip() != expected:
                raise MovedError("Another writer appended to the log first.")
            try:
                self._db.executemany(
                    "INSERT INTO entries VALUES (?, ?, ?, ?)",
                    [
                        (expected.size + i, row.entry, row.id, row.hashes)
                        for i, row in enumerate(rows)
                    ],
                )
            except sqlite3.IntegrityError as error:
                raise MovedError("An entry with this id is in the log.") from error

    def kept(self, name: str) -> str | None:
        with self._lock, self._failing_closed():
            return self._kept(name)

    def keep(self, name: str, expected: str | None, note: str) -> None:
        with self._writing():
            if self._kept(name) != expected:
                raise MovedError("Another writer kept a checkpoint first.")
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, note))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, self._failing_closed():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    with suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")

    def _tip(self) -> Tip:
        last = self._db.execute("SELECT n, hashes FROM entries ORDER BY n DESC LIMIT 1").fetchone()
        return EMPTY if last is None else Tip(last[0] + 1, last[1][:32])

    def _kept(self, name: str) -> str | None:
        row = self._db.execute("SELECT note FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _failing_closed(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LogError(f"The log's file cannot be used: {error}") from error
