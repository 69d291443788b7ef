"""One shard's encryption: C2SP chunked encryption with AES-256-GCM ("Cobblestone-256").

https://c2sp.org/chunked-encryption: 24 bytes of salt, 32 of commitment, then chunks of 16 KiB with
16 bytes of tag each, the last chunk always shorter. Streams are the cryptography package's own;
what it lacks is to open a chunk in the middle, which is here. Pure, but for the salt.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor as Decryptor
from cryptography.cobblestone import Cobblestone256Encryptor as Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tidegate.vault.errors import TamperedError, VaultError

__all__ = ["CHUNK", "HEADER", "SEALED_CHUNK", "Chunks", "Decryptor", "Encryptor", "sealed_size"]

CHUNK: Final = 16_384
TAG: Final = 16
SEALED_CHUNK: Final = CHUNK + TAG
HEADER: Final = 56
"""Salt and commitment."""

_SALT: Final = 24
_INFO: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
_KEY: Final = 32
_NONCE: Final = 12
_MOST_CHUNKS: Final = 1 << 38


def sealed_size(size: int) -> int:
    """Bytes of the ciphertext of `size` bytes. Raises VaultError beyond 4 PiB - 1."""
    if not 0 <= size < CHUNK * _MOST_CHUNKS:
        raise VaultError(f"one message holds at most 4 PiB - 1 bytes, not {size}")
    return HEADER + size + TAG * (size // CHUNK + 1)


class Chunks:
    """Opens single chunks of one message.

    Raises TamperedError unless key and context are those of the header.
    """

    def __init__(self, key: bytes, context: bytes, header: bytes) -> None:
        salt, commitment = header[:_SALT], header[_SALT:]
        info = _INFO + salt + context
        derived = HKDFExpand(SHA512(), _KEY + _NONCE + len(commitment), info).derive(key)
        if len(header) != HEADER or not hmac.compare_digest(derived[_KEY + _NONCE :], commitment):
            raise TamperedError("this key does not open this shard of this model and manifest")
        self._aead = AESGCM(derived[:_KEY])
        self._base = int.from_bytes(derived[_KEY : _KEY + _NONCE], "big")

    def open(self, number: int, sealed: memoryview, out: memoryview) -> None:
        """Decrypt chunk `number` into `out`, which is 16 bytes shorter. Raises TamperedError."""
        nonce = (self._base ^ number).to_bytes(_NONCE, "big")
        try:
            self._aead.decrypt_into(nonce, sealed, None, out)
        except InvalidTag as error:
            raise TamperedError(f"chunk {number} was changed, or is not where it was") from error
