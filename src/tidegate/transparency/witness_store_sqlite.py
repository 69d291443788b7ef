"""A witness's memory in one SQLite file, which one process may use at a time."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tidegate.disk import sync_folder
from tidegate.transparency.errors import MovedError, WitnessError
from tidegate.transparency.witness_store import START, Mark, Seen, next_mark

APPLICATION_ID = 0x54475731
"""`TGW1`: marks the file as a witness's memory."""

MOST_ACCUSATIONS = 1_000
"""A log that signs anything cannot fill the disk of whoever watches it."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS seen (
    origin TEXT PRIMARY KEY, note TEXT NOT NULL, time INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS marks (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    count INTEGER NOT NULL, head BLOB NOT NULL, before BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS accusations (
    origin TEXT NOT NULL, kept TEXT NOT NULL, note TEXT NOT NULL, UNIQUE (origin, kept, note)
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
COMMIT;
"""


class SqliteWitnessStore:
    """A `WitnessStore` over one file, in a folder that exists.

    Args:
        path: the file; made if it is not there.
        look: only read it, beside the witness that may be running on it.

    Raises:
        WitnessError: on opening, another process has it, it is no witness's memory, or it cannot
            be opened.
    """

    def __init__(self, path: Path, *, look: bool = False) -> None:
        self._lock = threading.Lock()
        self._sole: int | None = None
        with self._failing_closed():
            if look:
                self._db = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
                )
                if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                    raise WitnessError(f"{path.name} is no witness's memory.")
                return
            # Beside the file, not on it: SQLite's own locks are the process's, and so are these.
            self._sole = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._sole, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._sole)
                raise WitnessError(f"Another witness runs on {path.name}.") from error
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            sync_folder(path.parent)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            known = self._db.execute("PRAGMA application_id").fetchone()[0]
            tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if known != APPLICATION_ID and tables:
                self._db.close()
                os.close(self._sole)
                raise WitnessError(f"{path.name} is a database, but not a witness's memory.")
            self._db.execute("PRAGMA journal_mode = PERSIST")
            self._db.execute("PRAGMA synchronous = FULL")
            if known != APPLICATION_ID:
                self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file, for another process to open."""
        with self._lock:
            self._db.close()
            if self._sole is not None:
                os.close(self._sole)

    def mark(self) -> Mark:
        with self._lock, self._failing_closed():
            return self._marks()[0]

    def before(self) -> Mark:
        with self._lock, self._failing_closed():
            return self._marks()[1]

    def seen(self, origin: str) -> Seen | None:
        with self._lock, self._failing_closed():
            query = "SELECT origin, note, time FROM seen WHERE origin = ?"
            row = self._db.execute(query, (origin,)).fetchone()
            return None if row is None else Seen(*row)

    def all(self) -> Sequence[Seen]:
        with self._lock, self._failing_closed():
            rows = self._db.execute("SELECT origin, note, time FROM seen ORDER BY origin")
            return tuple(Seen(*row) for row in rows)

    def keep(self, expected: Mark, seen: Seen) -> None:
        with self._writing():
            if self._marks()[0] != expected:
                raise MovedError("Another request was first.")
            after = next_mark(expected, seen)
            self._db.execute(
                "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (seen.origin, seen.note, seen.time)
            )
            self._db.execute(
                "INSERT OR REPLACE INTO marks VALUES (1, ?, ?, ?)",
                (after.number, after.head, expected.head),
            )

    def accuse(self, origin: str, note: str) -> None:
        with self._writing():
            count = self._db.execute("SELECT count(*) FROM accusations").fetchone()[0]
            if count < MOST_ACCUSATIONS:
                self._db.execute(
                    "INSERT OR IGNORE INTO accusations"
                    " SELECT origin, note, ? FROM seen WHERE origin = ?",
                    (note, origin),
                )

    def accusations(self) -> Sequence[tuple[str, str, str]]:
        with self._lock, self._failing_closed():
            rows = self._db.execute("SELECT origin, kept, note FROM accusations ORDER BY rowid")
            return tuple((row[0], row[1], row[2]) for row in rows)

    def _marks(self) -> tuple[Mark, Mark]:
        row = self._db.execute("SELECT count, head, before FROM marks").fetchone()
        if row is None:
            return START, START
        return Mark(row[0], row[1]), Mark(row[0] - 1, row[2])

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

    @contextmanager
    def _failing_closed(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise WitnessError(f"The witness's memory cannot be used: {error}") from error
