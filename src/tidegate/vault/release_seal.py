"""Data keys sealed to the attested host's key (HPKE, RFC 9180); `spec/grants.md` has the bytes.

The broker knows the key's hash from the evidence, and the key from the host: it seals to nothing
else. What is inside opens in that host's process alone, and only for this very request.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tidegate.vault.grant_errors import GrantError

KEY_BYTES = 32
"""Of an HPKE public key, and of a data key."""

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_INFO = b"tidegate release v1\n"
_HEAD = struct.Struct(">Q")
_ONE = struct.Struct(f">I{KEY_BYTES}s")


@dataclass(frozen=True, slots=True)
class Package:
    """What a host was given: how long it may keep it (milliseconds), and each shard's data key."""

    lease: int
    keys: tuple[tuple[int, bytearray], ...]

    def wipe(self) -> None:
        """Overwrite the keys. Copies that Python or a library made elsewhere are not reached."""
        for _, key in self.keys:
            key[:] = bytes(len(key))


def hash_of(public: bytes) -> str:
    """SHA-256 in hex of an HPKE public key: what evidence and journal name it by."""
    return hashlib.sha256(public).hexdigest()


def sealed(public: bytes, request: bytes, lease: int, keys: Sequence[tuple[int, bytes]]) -> bytes:
    """The package for the host that holds the private half of `public` (32 bytes).

    Args:
        public: the attested HPKE public key, 32 bytes.
        request: the request's hash, 32 bytes.
        lease: how long the host may keep them without fresh evidence, milliseconds.
        keys: (shard number, data key of 32 bytes), ascending.

    Raises:
        GrantError: a key is not 32 bytes, or `public` is no usable key.
    """
    if any(len(key) != KEY_BYTES for _, key in keys):
        raise GrantError(f"A data key has to have {KEY_BYTES} bytes.")
    inside = _HEAD.pack(lease) + b"".join(_ONE.pack(number, key) for number, key in keys)
    try:
        recipient = X25519PublicKey.from_public_bytes(public)
        return _SUITE.encrypt(inside, recipient, info=_INFO + request)
    except ValueError as error:
        raise GrantError(f"The host's key cannot be sealed to: {error}") from error


def opened(private: X25519PrivateKey, request: bytes, package: bytes) -> Package:
    """The keys in a package that was sealed to `private` for `request`.

    Raises:
        GrantError: sealed to another key or for another request, or altered.
    """
    try:
        inside = _SUITE.decrypt(package, private, info=_INFO + request)
    except (InvalidTag, ValueError) as error:
        raise GrantError("The package is not sealed to this key for this request.") from error
    if len(inside) < _HEAD.size or (len(inside) - _HEAD.size) % _ONE.size:
        raise GrantError("The package holds something other than keys.")
    (lease,) = _HEAD.unpack_from(inside)
    pairs = _ONE.iter_unpack(inside[_HEAD.size :])
    return Package(lease, tuple((number, bytearray(key)) for number, key in pairs))
