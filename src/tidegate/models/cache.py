"""The user's cache of model files: where it is, who may write, and that bytes are what was pinned.

A file or folder under its final name is complete: it is built under a temporary name in the same
folder and renamed. Locks belong to the process and vanish with it, so a killed fetch is resumed by
the next caller.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tidegate.disk import sync_folder
from tidegate.errors import IntegrityError, ModelError

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, units done, units in all); the unit is bytes."""


def no_progress(stage: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """`$TIDEGATE_CACHE`, else `$XDG_CACHE_HOME/tidegate`, else `~/.cache/tidegate`."""
    if chosen := environ.get("TIDEGATE_CACHE"):
        return Path(chosen)
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tidegate"


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an advisory lock on `path`; waits while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file. Raises ModelError if it cannot be read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", file=str(path)) from error


def require_sha256(path: Path, expected: str) -> None:
    """Raise IntegrityError, naming the file, unless its SHA-256 is `expected`."""
    actual = sha256_of(path)
    if actual != expected:
        raise IntegrityError(
            f"{path} is not what was pinned; delete it and fetch it again",
            file=str(path),
            expected=expected,
            actual=actual,
        )


def require_space(folder: Path, needed: int) -> None:
    """Raise ModelError unless the disk that holds `folder` has `needed` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{folder} needs {needed >> 20} MiB free and has {free >> 20} MiB; "
            "free some space or set TIDEGATE_CACHE to another disk",
            needed_bytes=needed,
            free_bytes=free,
        )


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file or folder its final name, durably."""
    paths = sorted(temporary.iterdir()) if temporary.is_dir() else [temporary]
    for path in paths:
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    temporary.replace(final)
    sync_folder(final.parent)
