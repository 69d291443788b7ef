"""Objects as files of one folder, on one machine or on a file system that several share.

A file is written beside its place and linked there, which fails where a name is taken: nobody ever
sees half of one. What a killed writer left is named `.new-…`, is no object, and may be removed.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from tidegate.disk import sync_folder
from tidegate.verify.fleet_store import MAX_OBJECT, NoSuchObjectError, StoreError

_FRESH: Final = ".new-"
_PASSING: Final = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


class FileObjects:
    """An `Objects` over a folder, made by the first write and readable by its owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with _failing_closed(prefix):
            if not (self._folder / prefix).is_dir():
                return {}
            for place, _, files in os.walk(self._folder / prefix, onerror=_raised):
                for file in files:
                    path = Path(place) / file
                    if not file.startswith(_FRESH):
                        with suppress(FileNotFoundError):  # deleted since it was listed
                            found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        return found

    def read(self, name: str) -> bytes:
        with _failing_closed(name):
            try:
                with (self._folder / name).open("rb") as file:
                    data = file.read(MAX_OBJECT + 1)
            except FileNotFoundError as error:
                raise NoSuchObjectError(f"There is no object {name}.", name=name) from error
        if len(data) > MAX_OBJECT:
            raise StoreError(f"The object {name} is larger than any of ours.", name=name)
        return data

    def create(self, name: str, data: bytes) -> bool:
        path = self._folder / name
        with self._written(path, data) as fresh:
            try:
                os.link(fresh, path)
            except FileExistsError:
                return False
        return True

    def replace(self, name: str, data: bytes) -> None:
        path = self._folder / name
        with self._written(path, data) as fresh:
            fresh.replace(path)

    def delete(self, name: str) -> None:
        with _failing_closed(name):
            (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _written(self, path: Path, data: bytes) -> Iterator[Path]:
        """`data` on disk beside `path`; what is done with it is durable once the context ends."""
        fresh = path.with_name(_FRESH + secrets.token_hex(8))
        with _failing_closed(path.name):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with os.fdopen(
                    os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
                ) as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                yield fresh
                sync_folder(path.parent)
            finally:
                fresh.unlink(missing_ok=True)


def _raised(error: OSError) -> NoReturn:
    raise error


@contextmanager
def _failing_closed(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        again = error.errno in _PASSING
        raise StoreError(f"{name}: {error.strerror or error}", again=again, name=name) from error
