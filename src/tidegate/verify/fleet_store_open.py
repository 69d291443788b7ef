"""From a URL or a folder to the store that is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tidegate.errors import ConfigError
from tidegate.verify.fleet_store import Objects, Patient
from tidegate.verify.fleet_store_files import FileObjects


def open_objects(place: str, sleep: Callable[[float], None] = time.sleep) -> Objects:
    """The store at `place`: a folder, or a URL that fsspec knows; tried again where it falters.

    Raises ConfigError where nothing here can reach it.
    """
    if "://" not in place:
        return Patient(FileObjects(Path(place).expanduser()), sleep)
    if place.startswith("file://"):
        return Patient(FileObjects(Path(place.removeprefix("file://"))), sleep)
    try:
        from tidegate.verify.fleet_store_fsspec import FsspecObjects
    except ImportError as error:
        raise ConfigError(f"{place} is no folder; URLs need tidegate[storage]") from error
    return Patient(FsspecObjects(place), sleep)
