"""Objects in whatever fsspec reaches: `s3://`, `gs://`, `abfs://`, `memory://`.

`tidegate[storage]` brings S3; other media need their own package beside it. Credentials and
addresses are taken from the environment, as the medium's own package takes them.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import fsspec
from fsspec.core import url_to_fs

from tidegate.errors import ConfigError
from tidegate.verify.fleet_store import MAX_OBJECT, NoSuchObjectError, StoreError

_FOR_GOOD: Final = {errno.EACCES, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG}
_FOREIGN: Final = (
    ("botocore.exceptions", "BotoCoreError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("azure.core.exceptions", "AzureError"),
)
"""What the media's packages raise that is no OSError, where they are loaded."""


class FsspecObjects:
    """An `Objects` under a URL. Raises ConfigError where nothing here can reach it."""

    def __init__(self, url: str) -> None:
        try:
            # Lists are asked for anew each time: others write here too.
            self._fs, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            raise ConfigError(
                f"{url} needs a package that is not here ({error}); for s3:// install "
                "tidegate[storage]"
            ) from error
        except (ValueError, OSError) as error:
            raise ConfigError(f"{url} cannot be used: {error}") from error
        self._root = root.rstrip("/")

    def names(self, prefix: str) -> dict[str, int]:
        with _failing_closed(prefix):
            try:
                found = self._fs.find(self._path(prefix.rstrip("/")), detail=True)
            except FileNotFoundError:
                return {}
        cut = len(self._fs._strip_protocol(self._root)) + 1
        return {
            self._fs._strip_protocol(path)[cut:]: int(info.get("size") or 0)
            for path, info in found.items()
        }

    def read(self, name: str) -> bytes:
        path = self._path(name)
        with _failing_closed(name):
            try:
                data = self._cut(path)
            except FileNotFoundError as error:
                raise NoSuchObjectError(f"There is no object {name}.", name=name) from error
        if len(data) > MAX_OBJECT:
            raise StoreError(f"The object {name} is larger than any of ours.", name=name)
        return data

    def _cut(self, path: str) -> bytes:
        """An object's first bytes, one more than it may have."""
        try:
            return bytes(self._fs.cat_file(path, start=0, end=MAX_OBJECT + 1))
        except OSError as error:
            # S3 has no range of an object without bytes.
            if error.errno == errno.EINVAL and not self._fs.info(path)["size"]:
                return b""
            raise

    def create(self, name: str, data: bytes) -> bool:
        with _failing_closed(name):
            try:
                self._fs.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if _condition_failed(error):
                    return False
                raise
        return True

    def replace(self, name: str, data: bytes) -> None:
        with _failing_closed(name):
            self._fs.pipe_file(self._path(name), data)

    def delete(self, name: str) -> None:
        with _failing_closed(name):
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _failures() -> tuple[type[BaseException], ...]:
    foreign = (
        getattr(sys.modules[module], name) for module, name in _FOREIGN if module in sys.modules
    )
    # NotImplementedError: a medium that can only be read, such as http.
    return (OSError, NotImplementedError, fsspec.asyn.FSTimeoutError, *foreign)


def _condition_failed(error: OSError) -> bool:
    """Whether S3 says that the name is taken; not every server names the condition it speaks of."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "412")


@contextmanager
def _failing_closed(name: str) -> Iterator[None]:
    try:
        yield
    except _failures() as error:
        final = isinstance(error, PermissionError | FileNotFoundError | NotImplementedError) or (
            getattr(error, "errno", None) in _FOR_GOOD
        )
        told = str(error) or type(error).__name__
        raise StoreError(f"{name}: {told}", again=not final, name=name) from error
