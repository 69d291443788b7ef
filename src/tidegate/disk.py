"""What is on the disk once a call returns, whatever happens after it."""

from __future__ import annotations

import os
from pathlib import Path


def replace_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Make `data` what `path` holds: after a crash it is that or what was there. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    # Made anew: one that a crash left, or somebody else put there, keeps its mode and its readers.
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have names that were made, replaced or removed there survive a crash. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
