"""A key service in this process: wrapping keys in a file that only its owner reads.

AES-256-GCM with a random nonce of 96 bits for each wrapped key. The file is read at every call, so
that what another process rotated or revoked counts at once. Whoever reads the file, or a backup of
it from before a revocation, opens what it wrapped; a service on another host does not have that.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidegate.disk import replace_whole
from tidegate.models.cache import exclusive
from tidegate.vault.errors import KmsError, RevokedKeyError
from tidegate.vault.kms_port import (
    DATA_KEY_BYTES,
    WrappedKey,
    require_data_key,
    require_mine,
    require_revocable,
)

FORMAT: Final = "tidegate-local-kms/1"
_NONCE_BYTES: Final = 12
_WRAPPED_BYTES: Final = _NONCE_BYTES + DATA_KEY_BYTES + 16


class _Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: base64 of the key of each version that was not revoked, and the newest's number."""

    format: str
    name: str
    newest: Annotated[int, msgspec.Meta(ge=1)]
    keys: Mapping[int, str]


class LocalKms:
    """`Kms` over a file made by `create`. Raises KmsError where it cannot be read."""

    kind: Final = "local"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.key = self._read().name

    @classmethod
    def create(cls, path: Path) -> LocalKms:
        """Make the file with a first key. Raises KmsError if there is one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(_lock(path)):
            if path.exists():
                raise KmsError(f"{path} exists already; its keys are never replaced")
            name = secrets.token_hex(8)
            _write(path, _Held(FORMAT, name, 1, {1: _fresh()}))
        return cls(path)

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """See `Kms.wrap`."""
        require_data_key(key)
        held = self._read()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = _cipher(held, held.newest).encrypt(nonce, key, context)
        return WrappedKey(self.kind, self.key, held.newest, nonce + sealed)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """See `Kms.unwrap`."""
        require_mine(wrapped, self.kind, self.key)
        cipher = _cipher(self._read(), wrapped.version)
        nonce, sealed = wrapped.wrapped[:_NONCE_BYTES], wrapped.wrapped[_NONCE_BYTES:]
        try:
            if len(wrapped.wrapped) != _WRAPPED_BYTES:
                raise InvalidTag
            return cipher.decrypt(nonce, sealed, context)
        except InvalidTag as error:
            raise KmsError(
                "this data key was wrapped for another shard, model or manifest, or was changed"
            ) from error

    def rotate(self) -> int:
        """See `Kms.rotate`."""
        with exclusive(_lock(self._path)):
            held = self._read()
            newest = held.newest + 1
            keys = {**held.keys, newest: _fresh()}
            _write(self._path, _Held(FORMAT, held.name, newest, keys))
        return newest

    def revoke(self, version: int) -> None:
        """See `Kms.revoke`. What the disk keeps of replaced blocks is beyond this file's reach."""
        with exclusive(_lock(self._path)):
            held = self._read()
            require_revocable(version, held.newest)
            keys = {number: key for number, key in held.keys.items() if number > version}
            _write(self._path, _Held(FORMAT, held.name, held.newest, keys))

    def _read(self) -> _Held:
        try:
            held = msgspec.json.decode(self._path.read_bytes(), type=_Held)
        except FileNotFoundError as error:
            raise KmsError(
                f"there are no wrapping keys in {self._path}; make them with "
                "`tidegate vault kms create local:PATH`",
                file=str(self._path),
            ) from error
        except OSError as error:
            raise KmsError(f"cannot read {self._path}: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # Without the parser's words: they might quote a key.
            raise KmsError(f"{self._path} holds no wrapping keys, or is damaged") from error
        if held.format != FORMAT or held.newest not in held.keys:
            raise KmsError(f"{self._path} holds no wrapping keys, or is damaged")
        return held


def _cipher(held: _Held, version: int) -> AESGCM:
    if not 1 <= version <= held.newest:
        raise KmsError(f"there is no version {version} of this wrapping key")
    if version not in held.keys:
        raise RevokedKeyError(
            f"version {version} of the wrapping key was revoked: what it wrapped stays closed",
            version=version,
        )
    try:
        return AESGCM(base64.b64decode(held.keys[version], validate=True))
    except ValueError as error:
        raise KmsError(f"version {version} of the wrapping key is damaged") from error


def _fresh() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _lock(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _write(path: Path, held: _Held) -> None:
    try:
        replace_whole(path, msgspec.json.encode(held) + b"\n", mode=0o600)
    except OSError as error:
        raise KmsError(f"cannot write {path}: {error.strerror}") from error
