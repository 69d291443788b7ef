"""Segments as files of one folder: the default store.

One file a segment, named by its first entry with twenty digits. An append is one `pwrite` at the
end and one `fdatasync`; a new file's name is made durable by syncing the folder. A write that was
interrupted leaves a prefix of its bytes, which is what the recovery of a torn line relies on: the
file system must not lengthen a file before its bytes are there (ext4 `data=ordered`, XFS, APFS).
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tidegate.errors import RecordError

_NAME: Final = re.compile(r"[0-9]{20}\.log", re.ASCII)
_LOCK: Final = "writer.lock"


class FileSource:
    """A `Source` over a folder; may be read while somebody writes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def segments(self) -> tuple[int, ...]:
        with _failing_closed(self._folder):
            names = sorted(path.name for path in self._folder.iterdir())
        return tuple(int(name[:20]) for name in names if _NAME.fullmatch(name))

    def read(self, segment: int, offset: int, limit: int) -> bytes:
        with _failing_closed(self._folder), _opened(self._path(segment), os.O_RDONLY) as handle:
            return os.pread(handle, limit, offset)

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:020d}.log"


class FileStore(FileSource):
    """A `Store` over a folder, which is made if need be and readable by its owner alone.

    Raises:
        RecordError: another writer has the folder, or it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with _failing_closed(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.open(folder / _LOCK, flags, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._lock)
                raise RecordError(
                    f"Another process is writing the record in {folder.name}."
                ) from error

    def close(self) -> None:
        """Let another writer in; every append that returned is already on disk."""
        os.close(self._lock)

    def append(self, segment: int, offset: int, data: bytes) -> None:
        path = self._path(segment)
        with _failing_closed(self._folder):
            first = offset == 0
            with _opened(path, os.O_WRONLY | (os.O_CREAT if first else 0)) as handle:
                if os.fstat(handle).st_size != offset:
                    raise RecordError("Somebody else wrote to the record.", segment=segment)
                view = memoryview(data)
                while view:
                    written = os.pwrite(handle, view, offset)
                    offset, view = offset + written, view[written:]
                os.fdatasync(handle)
            if first:
                self._sync_folder()

    def cut(self, segment: int, offset: int) -> None:
        path = self._path(segment)
        with _failing_closed(self._folder), _opened(path, os.O_WRONLY) as handle:
            os.ftruncate(handle, offset)
            os.fsync(handle)

    def _sync_folder(self) -> None:
        with _opened(self._folder, os.O_RDONLY | os.O_DIRECTORY) as handle:
            os.fsync(handle)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _failing_closed(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"The record in {folder.name} cannot be used: {error.strerror}"
        ) from error
