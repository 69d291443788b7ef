"""Events on disk: SQLite, newest first, a page at a time however many there are.

Pages go by number, not by offset, so that the millionth costs what the first does. One column's
filter with any severity is answered from an index, a severity at a time; several columns together
are looked for among `_LOOKED` events at once, after which the page says where to go on.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Final

import msgspec

from tidegate.console.errors import ConsoleError
from tidegate.console.event import SEVERITIES, Asked, Event, Kept, Page

_LOOKED: Final = 100_000
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS event (
    n INTEGER PRIMARY KEY, uid TEXT NOT NULL, time REAL NOT NULL, severity INTEGER NOT NULL,
    kind TEXT NOT NULL, source TEXT NOT NULL, subject TEXT NOT NULL, title TEXT NOT NULL,
    body TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS event_uid ON event (uid);
CREATE INDEX IF NOT EXISTS event_time ON event (time, n);
CREATE INDEX IF NOT EXISTS event_kind ON event (kind, severity, n);
CREATE INDEX IF NOT EXISTS event_subject ON event (subject, severity, n);
CREATE INDEX IF NOT EXISTS event_source ON event (source, severity, n);
CREATE INDEX IF NOT EXISTS event_severity ON event (severity, n);
CREATE INDEX IF NOT EXISTS event_open ON event (severity, n) WHERE done = 0 AND severity >= 3;
"""
_COLUMNS: Final = "n, uid, time, severity, kind, source, subject, title, body, done"


class Events:
    """The store. Safe to share between threads.

    Raises ConsoleError where the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise ConsoleError(f"the console's events cannot be opened: {error}") from error

    def close(self) -> None:
        """The store is not used any more."""
        self._database.close()

    def add(self, events: Iterable[Event]) -> tuple[Kept, ...]:
        """Keep events, each uid once; those that are new, as kept."""
        new: list[Kept] = []
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                for event in events:
                    done = self._database.execute(
                        "INSERT OR IGNORE INTO event "
                        "(uid, time, severity, kind, source, subject, title, body) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            event.uid,
                            event.time,
                            event.severity,
                            event.kind,
                            event.source,
                            event.subject,
                            event.title,
                            msgspec.json.encode(event.body).decode(),
                        ),
                    )
                    if done.rowcount and done.lastrowid is not None:
                        new.append(Kept(n=done.lastrowid, event=event, done=False))
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise ConsoleError(f"an event could not be kept: {error}") from error
        return tuple(new)

    def page(self, asked: Asked) -> Page:
        """The newest events that match, at most `asked.limit`."""
        before = self._before(asked)
        where, values = _columns(asked)
        floor = max(0, before - _LOOKED) if len(values) > 1 else 0
        wanted = asked.limit + 1
        found: list[Kept] = []
        for severity in range(asked.severity, max(SEVERITIES) + 1):
            found += self._kept(
                f"SELECT {_COLUMNS} FROM event WHERE {where} severity = ? AND n >= ? AND n < ? "  # noqa: S608
                "ORDER BY n DESC LIMIT ?",
                (*values, severity, floor, before, wanted),
            )
        newest = nlargest(wanted, found, key=lambda kept: kept.n)
        if len(newest) == wanted:
            return Page(events=tuple(newest[:-1]), before=newest[-2].n)
        return Page(events=tuple(newest), before=floor or None)

    def _before(self, asked: Asked) -> int:
        """The number below which to look."""
        newest = self._read("SELECT coalesce(max(n), 0) FROM event", ())
        limits = [1 + int(str(newest[0][0]))]
        limits += [asked.before] if asked.before is not None else []
        if asked.until is not None:
            rows = self._read(
                "SELECT n FROM event WHERE time <= ? ORDER BY time DESC, n DESC LIMIT 1",
                (asked.until,),
            )
            limits.append(1 + int(str(rows[0][0])) if rows else 0)
        return min(limits)

    def one(self, n: int) -> Kept | None:
        """The event of that number."""
        found = self._kept(f"SELECT {_COLUMNS} FROM event WHERE n = ?", (n,))  # noqa: S608
        return found[0] if found else None

    def finish(self, n: int) -> bool:
        """An operator has dealt with it; False if there is none, or it was dealt with before."""
        with self._lock:
            try:
                done = self._database.execute(
                    "UPDATE event SET done = 1 WHERE n = ? AND done = 0", (n,)
                )
            except sqlite3.Error as error:
                raise ConsoleError(f"an event could not be changed: {error}") from error
            return done.rowcount == 1

    def still_open(self) -> dict[str, int]:
        """How many events of medium severity and above nobody has dealt with, by severity."""
        rows = self._read(
            "SELECT severity, count(*) FROM event WHERE done = 0 AND severity >= 3 "
            "GROUP BY severity",
            (),
        )
        return {SEVERITIES[int(str(severity))]: int(str(count)) for severity, count in rows}

    def _kept(self, query: str, values: Sequence[object]) -> tuple[Kept, ...]:
        return tuple(_event(row) for row in self._read(query, values))

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[object, ...]]:
        with self._lock:
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise ConsoleError(f"the console's events cannot be read: {error}") from error


def _columns(asked: Asked) -> tuple[str, list[object]]:
    """The conditions on single columns, and their values."""
    wanted = {c: v for c in ("kind", "subject", "source") if (v := getattr(asked, c))}
    conditions = [f"{column} = ? AND" for column in wanted]
    if asked.open_only:
        conditions.append("done = 0 AND severity >= 3 AND")
    return " ".join(conditions), list(wanted.values())


def _event(row: tuple[object, ...]) -> Kept:
    n, uid, time, severity, kind, source, subject, title, body, done = row
    event = msgspec.convert(
        {
            "uid": uid,
            "time": time,
            "severity": severity,
            "kind": kind,
            "source": source,
            "subject": subject,
            "title": title,
            "body": msgspec.json.decode(str(body)),
        },
        Event,
    )
    return Kept(n=int(str(n)), event=event, done=bool(done))
