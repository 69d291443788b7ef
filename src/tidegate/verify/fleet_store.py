"""The one port through which the fleet reaches shared storage: whole objects by name.

Every adapter keeps this contract, and `tests/contract/fleet` holds it to it:

* **Whole or not at all.** A reader sees an object's bytes as one writer gave them, or none; where a
  medium cannot promise that, whoever reads finds out by the digest or seal in the bytes.
* **Created once.** Of several `create` of one name exactly one ever returns True, and its bytes
  stay. This is what makes a verdict one verdict; `probe` refuses a store that does not keep it.
* **Listed at once.** `names` shows what was created before it was called.
* **Honest about doubt.** A call that raises may have been done or not; only reading tells.

Who can write to the store can withhold and delete, which leaves verdicts missing, never passed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from tidegate.errors import RecordError

MAX_OBJECT: Final = 64 << 20
"""Bytes of an object that are read; nothing the fleet writes is larger."""

PROBES: Final = "probe/"

_FIRST_WAIT: Final = 0.2
"""Seconds before the second try; each later wait is twice as long."""

T = TypeVar("T")


class StoreError(RecordError):
    """Shared storage failed. `again`: the same call may do better later."""

    code = "object_store_error"

    def __init__(self, message: str, *, again: bool = False, name: str = "") -> None:
        super().__init__(message, again=again, name=name)
        self.again = again


class NoSuchObjectError(StoreError):
    """There is no object of that name."""

    code = "no_such_object"


class Objects(Protocol):
    """Objects by name: ASCII words joined by `/`, without dots as words."""

    def names(self, prefix: str) -> dict[str, int]:
        """All names that begin with `prefix` (which ends in `/`), and their sizes in bytes.

        Raises StoreError.
        """
        ...

    def read(self, name: str) -> bytes:
        """An object's bytes. Raises NoSuchObjectError; StoreError, also beyond `MAX_OBJECT`."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Make an object, durable on return; False if there is one of this name. Raises StoreError.

        False may also mean that an earlier try of this very call was done after all.
        """
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Make `data` what is under `name`, durable on return. Raises StoreError."""
        ...

    def delete(self, name: str) -> None:
        """Have no object of that name; no error if there is none. Raises StoreError."""
        ...


class Patient:
    """Another store, tried again for a while where it says that this may help."""

    def __init__(self, inner: Objects, sleep: Callable[[float], None], tries: int = 6) -> None:
        self._inner = inner
        self._sleep = sleep
        self._tries = tries

    def names(self, prefix: str) -> dict[str, int]:
        return self._tried(lambda: self._inner.names(prefix))

    def read(self, name: str) -> bytes:
        return self._tried(lambda: self._inner.read(name))

    def create(self, name: str, data: bytes) -> bool:
        return self._tried(lambda: self._inner.create(name, data))

    def replace(self, name: str, data: bytes) -> None:
        self._tried(lambda: self._inner.replace(name, data))

    def delete(self, name: str) -> None:
        self._tried(lambda: self._inner.delete(name))

    def _tried(self, call: Callable[[], T]) -> T:
        for turn in range(self._tries - 1):
            try:
                return call()
            except StoreError as error:
                if not error.again:
                    raise
                self._sleep(_FIRST_WAIT * 2**turn)
        return call()


def probe(store: Objects) -> None:
    """Make sure that a name is created once, for some stores take the condition and ignore it.

    Raises:
        StoreError: it is not, or the store cannot be used at all.
    """
    name = f"{PROBES}{secrets.token_hex(8)}"
    try:
        store.create(name, b"first")
        if store.create(name, b"second") or store.read(name) != b"first":
            raise StoreError(
                "The store creates one name twice, so it cannot keep one verdict a shard; use one "
                "with conditional writes (S3's If-None-Match), or a folder.",
                name=name,
            )
        if name not in store.names(PROBES):
            raise StoreError("The store does not list what was just created in it.", name=name)
    finally:
        store.delete(name)
