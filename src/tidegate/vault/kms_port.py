"""The port to a key service: what wraps data keys, and can refuse ever to unwrap them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from tidegate.vault.errors import KmsError

DATA_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key that only the key service can open.

    `kms` names the kind of service, `key` the wrapping key in it, `version` which of its versions.
    """

    kms: str
    key: str
    version: int
    wrapped: bytes


class Kms(Protocol):
    """Wrapping keys that never leave the service; versions count from 1.

    What a call did is durable once it returns. `context` is authenticated, not hidden: a key
    unwraps only under the bytes it was wrapped under. Every call raises KmsError where the service
    cannot be reached or refuses.
    """

    @property
    def kind(self) -> str:
        """`local`, `openbao` or `pkcs11`; what `WrappedKey.kms` says."""
        ...

    @property
    def key(self) -> str:
        """The wrapping key's name; what `WrappedKey.key` says."""
        ...

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Wrap 32 bytes under the newest version."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The 32 bytes.

        Raises RevokedKeyError for a version that was revoked, and KmsError for another context,
        another service's key or bytes that were changed.
        """
        ...

    def rotate(self) -> int:
        """Make a new version, under which keys are wrapped from now on. Returns its number."""
        ...

    def revoke(self, version: int) -> None:
        """Destroy this version and all before it, for ever; revoking twice does no harm.

        Raises KmsError for the newest version, which has to be rotated first, and for one that
        never was.
        """
        ...


def require_data_key(key: bytes) -> None:
    """Raise KmsError unless `key` has the size of a data key."""
    if len(key) != DATA_KEY_BYTES:
        raise KmsError(f"a data key has {DATA_KEY_BYTES} bytes, not {len(key)}")


def require_mine(wrapped: WrappedKey, kind: str, key: str) -> None:
    """Raise KmsError unless `wrapped` was wrapped by this kind of service under this key."""
    if (wrapped.kms, wrapped.key) != (kind, key):
        raise KmsError(
            f"this key was wrapped by {wrapped.kms}:{wrapped.key}, not by {kind}:{key}; "
            "name that key service",
            kms=wrapped.kms,
            key=wrapped.key,
        )


def require_revocable(version: int, newest: int) -> None:
    """Raise KmsError for a version that never was, or is the newest."""
    if not 1 <= version <= newest:
        raise KmsError(f"there is no version {version}; the newest is {newest}")
    if version == newest:
        raise KmsError(
            f"version {version} is the newest; rotate and rewrap first, then revoke it",
            version=version,
        )
