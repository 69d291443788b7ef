"""A part or events that another command writes as JSON: a status file, lines of findings."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tidegate.clock import Clock
from tidegate.console.errors import SourceError
from tidegate.console.event import Event
from tidegate.console.headline import Part

_MOST_STATUS: Final = 4 << 20
_MOST_READ: Final = 4 << 20
_MOST_LINE: Final = 1 << 20
STALE_S: Final = 30.0


class StatusFile:
    """A part that is read from a file which somebody keeps writing anew."""

    def __init__(
        self,
        path: Path,
        shown: Callable[[dict[str, Any]], Part],
        clock: Clock,
        *,
        said_by: str,
        stale_s: float = STALE_S,
    ) -> None:
        self._path, self._shown, self._clock = path, shown, clock
        self._said_by, self._stale = said_by, stale_s

    def read(self) -> Part:
        """Raises SourceError: there is no such file, it is old, or no such status."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                raw = file.read(_MOST_STATUS + 1)
        except OSError as error:
            raise SourceError(f"{self._said_by} has written no status yet") from error
        age = self._clock.now() - stat.st_mtime
        if age > self._stale:
            raise SourceError(f"{self._said_by} has said nothing for {age:.0f} s")
        try:
            return self._shown(msgspec.json.decode(raw, type=dict[str, Any]))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(f"what {self._said_by} wrote is no status") from error


class Findings:
    """Events of a file that OCSF detection findings are appended to, a line each.

    A line that is none becomes an event itself, once: silence would look like calm. A file that
    shrinks or is replaced is read from its beginning.
    """

    def __init__(self, path: Path, *, source: str) -> None:
        self._path, self._source = path, source
        self._at, self._inode = 0, -1

    def read(self) -> tuple[Event, ...]:
        """Raises SourceError: the file is there and cannot be read."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._at:
                    self._at, self._inode = 0, stat.st_ino
                file.seek(self._at)
                raw = file.read(_MOST_READ)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SourceError(f"{self._path.name} cannot be read: {error.strerror}") from error
        end = raw.rfind(b"\n") + 1
        if not end and len(raw) >= _MOST_LINE:
            end = len(raw)
        self._at += end
        lines = raw[:end].splitlines()
        return tuple(self._event(line, stat.st_mtime) for line in lines if line.strip())

    def _event(self, line: bytes, written: float) -> Event:
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
            return of_ocsf(found, self._source)
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError, ValueError):
            return Event(
                uid=hashlib.sha256(line).hexdigest()[:32],
                time=written,
                severity=4,
                kind="unreadable",
                source=self._source,
                subject="",
                title=f"A line of {self._path.name} is no finding",
            )


def of_ocsf(found: dict[str, Any], source: str) -> Event:
    """An OCSF finding as an event. Raises KeyError, TypeError or ValueError for anything else."""
    info = found["finding_info"]
    resources = found.get("resources") or [{}]
    return msgspec.convert(
        Event(
            uid=str(info["uid"]),
            time=float(found["time"]) / 1000,
            severity=min(5, max(1, int(found["severity_id"]))),
            kind=str((info.get("types") or ["finding"])[0]),
            source=source,
            subject=str(resources[0].get("name", "")),
            title=str(info["title"]),
            body=found,
        ),
        Event,
        from_attributes=True,
    )
