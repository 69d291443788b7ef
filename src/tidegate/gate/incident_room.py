"""Room for evidence: bounded, and never the last of a disk that the gate's quotas are written to.

Nothing is deleted to make room: what was kept first shows how it began. What finds no room is
refused, and whoever is refused says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tidegate.errors import GateError

MOST_BYTES: Final = 1 << 30
RESERVE: Final = 1 << 28


class NoRoomError(GateError):
    """Evidence was not kept: there is too much of it, or too little of the disk is left."""

    code = "no_room"


class Room:
    """The room in a folder.

    Args:
        folder: what is in it counts, whoever put it there; made where it is not there.
        most_bytes: of the folder; the last sixteenth is for alerts' lines alone.
        reserve: bytes of the disk that stay free; alerts' lines may take half of them.
    """

    def __init__(
        self, folder: Path, *, most_bytes: int = MOST_BYTES, reserve: int = RESERVE
    ) -> None:
        self._folder, self._most, self._reserve = folder, most_bytes, reserve
        self._used: int | None = None

    def claim(self, size: int, *, line: bool = False) -> None:
        """Take `size` bytes, just before they are written. Raises NoRoomError, or GateError where
        the folder cannot be looked at."""
        most = self._most if line else self._most - self._most // 16
        reserve = self._reserve // 2 if line else self._reserve
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            used = self._counted() if self._used is None else self._used
            disk = os.statvfs(self._folder)
        except OSError as error:
            raise GateError(f"cannot look at {self._folder}: {error.strerror}") from error
        if used + size > most:
            raise NoRoomError(
                f"no more evidence is kept: {self._folder} has {used:,} of {most:,} bytes; move "
                "some away"
            )
        if (free := disk.f_bavail * disk.f_frsize) < size + reserve:
            raise NoRoomError(
                f"no more evidence is kept: the disk of {self._folder} has {free:,} bytes left, of "
                f"which {reserve:,} stay free"
            )
        self._used = used + size

    def _counted(self) -> int:
        return sum(
            (Path(folder) / name).lstat().st_size
            for folder, _, names in os.walk(self._folder)
            for name in names
        )
