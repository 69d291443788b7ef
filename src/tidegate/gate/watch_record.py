"""How far a watch has looked, on the disk: so that the next one knows what nobody looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from tidegate.disk import replace_whole
from tidegate.errors import GateError
from tidegate.scan.alerts import Alert, unwatched
from tidegate.units import Timestamp

FILE: Final = "watched.json"


class Looked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A watch had looked at all of the first `packets` that `interface` counted, at `at` (Unix
    seconds). The count is the interface's own, of this `boot` and `index`. `ended`: the watch was
    stopped in order."""

    boot: str
    interface: str
    index: int
    packets: int
    at: float
    ended: bool = False


def read(folder: Path) -> Looked | None:
    """What the last watch left in its folder; None where there never was one. A file that is
    damaged tells of no interface, and so of nothing that was looked at.

    Raises GateError where it cannot be read.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Looked)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GateError(f"cannot read {path}: {error.strerror}", path=str(path)) from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Looked(boot="", interface="", index=0, packets=0, at=path.stat().st_mtime)


def write(folder: Path, looked: Looked) -> None:
    """Remember it. Raises GateError where that cannot be, as on a full disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_whole(folder / FILE, msgspec.json.encode(looked), 0o600)
    except OSError as error:
        raise GateError(
            f"cannot write {folder / FILE}: {error.strerror or error}", path=str(folder / FILE)
        ) from error


def away(before: Looked, now: Looked) -> Alert | None:
    """An alert on what passed between two watches; None where nothing did. Pure.

    A count of another boot or of an interface made anew says nothing of what passed before.
    """
    same = (before.boot, before.interface, before.index) == (now.boot, now.interface, now.index)
    missed = now.packets - before.packets if same and now.packets >= before.packets else None
    if missed == 0:
        return None
    since, time = Timestamp(before.at), Timestamp(now.at)
    return unwatched(now.interface, missed, since, time, ended=before.ended)
