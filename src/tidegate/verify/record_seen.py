"""A set of digests that grows on disk, so that reading a long record takes bounded memory."""

from __future__ import annotations

import sqlite3
from typing import Final

from tidegate.errors import RecordError

_CACHE_KIB: Final = 4_096


class Seen:
    """Digests met so far, in a temporary file that SQLite makes and removes by itself."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, digest: bytes) -> bool:
        """Whether `digest` is new. Raises RecordError where the file cannot grow."""
        try:
            done = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,))
        except sqlite3.Error as error:
            raise RecordError(f"The temporary file of the reader fails: {error}") from error
        return done.rowcount == 1

    def close(self) -> None:
        """Remove the file."""
        self._db.close()
