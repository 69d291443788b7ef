"""A key service in a hardware security module, or in SoftHSM2 where there is none: PKCS#11.

Versions are AES-256 keys of one label, told apart by CKA_ID, sensitive and not extractable.
AES-256-GCM with the context as associated data. Needs `tidegate[vault]`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tidegate.vault.errors import KmsError, RevokedKeyError
from tidegate.vault.kms_port import (
    DATA_KEY_BYTES,
    WrappedKey,
    require_data_key,
    require_mine,
    require_revocable,
)

_NONCE: Final = 12
_WRAPPED: Final = _NONCE + DATA_KEY_BYTES + 16


class Pkcs11Kms:
    """`Kms` over a token. Every call opens a session of its own.

    Args:
        module: the module's library, such as `/usr/lib/softhsm/libsofthsm2.so`.
        token: the token's label.
        key: the label of the wrapping keys; `create` makes the first.
        pin: the user's.

    Raises KmsError where the library cannot be loaded or the package is not installed.
    """

    kind: Final = "pkcs11"

    def __init__(self, module: str, token: str, key: str, pin: str) -> None:
        try:
            import pkcs11
        except ImportError as error:
            raise KmsError("keys in a hardware module need tidegate[vault]") from error
        self._api: Any = pkcs11
        self.key = f"{token}/{key}"
        self._token, self._label, self._pin = token, key, pin
        try:
            self._library: Any = pkcs11.lib(module)
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise KmsError(f"cannot load the PKCS#11 module {module}: {error}") from error

    def create(self) -> None:
        """Make the first wrapping key, if there is none. Raises KmsError."""
        with self._session() as session:
            if not self._versions(session):
                self._generate(session, 1)

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """See `Kms.wrap`."""
        require_data_key(key)
        nonce = secrets.token_bytes(_NONCE)
        with self._session() as session:
            held = self._versions(session)
            if not held:
                raise KmsError(f"the token {self._token} has no keys called {self._label}")
            newest = max(held)
            sealed = held[newest].encrypt(key, **self._gcm(nonce, context))
        return WrappedKey(self.kind, self.key, newest, nonce + bytes(sealed))

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """See `Kms.unwrap`."""
        require_mine(wrapped, self.kind, self.key)
        nonce, sealed = wrapped.wrapped[:_NONCE], wrapped.wrapped[_NONCE:]
        if len(wrapped.wrapped) != _WRAPPED:
            raise KmsError("this wrapped key was changed")
        with self._session() as session:
            held = self._versions(session)
            if wrapped.version not in held:
                if 1 <= wrapped.version < max(held, default=0):
                    raise RevokedKeyError(
                        f"version {wrapped.version} of the wrapping key was revoked: what it "
                        "wrapped stays shut",
                        version=wrapped.version,
                    )
                raise KmsError(f"there is no version {wrapped.version} of this wrapping key")
            try:
                return bytes(held[wrapped.version].decrypt(sealed, **self._gcm(nonce, context)))
            except self._api.PKCS11Error as error:
                raise KmsError(
                    "this data key was wrapped for another shard, model or manifest, or was changed"
                ) from error

    def rotate(self) -> int:
        """See `Kms.rotate`."""
        with self._session() as session:
            newest = max(self._versions(session), default=0) + 1
            self._generate(session, newest)
        return newest

    def revoke(self, version: int) -> None:
        """See `Kms.revoke`: the module destroys the keys."""
        with self._session() as session:
            held = self._versions(session)
            require_revocable(version, max(held, default=0))
            for number in sorted(held):
                if number <= version:
                    held[number].destroy()

    @contextmanager
    def _session(self) -> Iterator[Any]:
        api = self._api
        try:
            token = self._library.get_token(token_label=self._token)
            with token.open(rw=True, user_pin=self._pin) as session:
                yield session
        except (api.exceptions.PinIncorrect, api.exceptions.PinLocked) as error:
            raise KmsError(f"the token {self._token} does not take this PIN") from error
        except api.exceptions.NoSuchToken as error:
            raise KmsError(f"there is no token {self._token}") from error
        except (api.PKCS11Error, RuntimeError) as error:
            name = type(error).__name__
            raise KmsError(f"the token {self._token} refused: {name} {error}".rstrip()) from error

    def _versions(self, session: Any) -> dict[int, Any]:
        wanted = {
            self._api.Attribute.LABEL: self._label,
            self._api.Attribute.CLASS: self._api.ObjectClass.SECRET_KEY,
        }
        return {int.from_bytes(key.id, "big"): key for key in session.get_objects(wanted)}

    def _generate(self, session: Any, version: int) -> None:
        attribute = self._api.Attribute
        session.generate_key(
            self._api.KeyType.AES,
            256,
            id=version.to_bytes(4, "big"),
            label=self._label,
            store=True,
            capabilities=self._api.MechanismFlag.ENCRYPT | self._api.MechanismFlag.DECRYPT,
            template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
        )

    def _gcm(self, nonce: bytes, context: bytes) -> dict[str, Any]:
        return {
            "mechanism": self._api.Mechanism.AES_GCM,
            "mechanism_param": self._api.GCMParams(nonce, context),
        }
