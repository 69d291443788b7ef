"""Cosignatures: a witness says when, and up to which size, it saw one history of a log.

Format: C2SP tlog-cosignature (https://c2sp.org/tlog-cosignature), both its types: timestamped
Ed25519 (0x04) over the note's text, and ML-DSA-44 (0x06, FIPS 204) over a structure of its own.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import (
    KEY_NAME,
    Checkpoint,
    b64,
    signature_line,
    take_apart,
    unb64,
)


class Algorithm(IntEnum):
    """What a cosignature is made with; the number is its signature type in C2SP signed-note."""

    ED25519 = 0x04
    ML_DSA_44 = 0x06


_KEY_BYTES = {Algorithm.ED25519: 32, Algorithm.ML_DSA_44: 1312}
_SIGNATURE_BYTES = {Algorithm.ED25519: 64, Algorithm.ML_DSA_44: 2420}
_MAX_TIME = 2**63 - 1
_VKEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A checked cosignature: who, and at which second since the Unix epoch."""

    name: str
    time: int


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A trusted witness: its name, its algorithm and its raw public key."""

    name: str
    algorithm: Algorithm
    public_key: bytes

    def __post_init__(self) -> None:
        if not KEY_NAME.fullmatch(self.name) or not 1 <= len(self.name.encode()) <= 255:
            raise CheckpointError(
                "A witness has a name without spaces or plus signs, of at most 255 bytes."
            )
        if len(self.public_key) != _KEY_BYTES[self.algorithm]:
            raise CheckpointError(f"A key for {self.algorithm.name} has another length.")

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name || 0x0A || type || public key)."""
        named = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public_key
        return hashlib.sha256(named).digest()[:4]

    def encode(self) -> str:
        """`name+hex(key id)+base64(type || public key)`, to put in a policy."""
        key = b64(bytes([self.algorithm]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, encoded: str) -> WitnessKey:
        """Read what `encode` wrote.

        Raises:
            CheckpointError: malformed, of another type, or the key id does not fit the key.
        """
        parts = _VKEY.fullmatch(encoded)
        if parts is None:
            raise CheckpointError("A key is name+id+base64.")
        raw = unb64(parts[3])
        if raw[:1] not in [bytes([algorithm]) for algorithm in Algorithm]:
            raise CheckpointError("A witness's key is Ed25519 (type 0x04) or ML-DSA-44 (0x06).")
        key = cls(parts[1], Algorithm(raw[0]), raw[1:])
        if key.key_id.hex() != parts[2]:
            raise CheckpointError("The key id does not belong to this name and key.")
        return key

    def find(self, note: str) -> Cosignature | None:
        """This witness's cosignature under `note`, checked; None if there is none.

        Raises:
            CheckpointError: malformed, or a cosignature of this key is wrong: the whole note is to
                be refused.
        """
        text, signatures = take_apart(note)
        found: Cosignature | None = None
        for name, signature in signatures:
            if (name, signature[:4]) == (self.name, self.key_id):
                one = self._check(text, signature[4:])
                found = one if found is None or one.time > found.time else found
        return found

    def _check(self, text: str, stamped: bytes) -> Cosignature:
        time = int.from_bytes(stamped[:8], "big")
        if len(stamped) != 8 + _SIGNATURE_BYTES[self.algorithm] or not 0 < time <= _MAX_TIME:
            raise CheckpointError(f"The cosignature of {self.name} is malformed.")
        message = _message(self.name, self.algorithm, text, time)
        try:
            if self.algorithm is Algorithm.ED25519:
                Ed25519PublicKey.from_public_bytes(self.public_key).verify(stamped[8:], message)
            else:
                MLDSA44PublicKey.from_public_bytes(self.public_key).verify(stamped[8:], message)
        except InvalidSignature as error:
            raise CheckpointError(f"The cosignature of {self.name} is wrong.") from error
        except UnsupportedAlgorithm as error:
            raise CheckpointError("This machine's cryptography has no ML-DSA.") from error
        return Cosignature(self.name, time)


class Cosigner:
    """A witness's private key.

    Args:
        name: by convention a URL without its scheme, such as `witness.example/w1`.
        seed: 32 secret bytes, of no other key: Ed25519's cosignatures do not name their signer.
        algorithm: which of the two.

    Raises:
        CheckpointError: the name or the length does not do, or ML-DSA is not to be had here.
    """

    def __init__(self, name: str, seed: bytes, algorithm: Algorithm = Algorithm.ML_DSA_44) -> None:
        if len(seed) != 32:
            raise CheckpointError("A witness's secret has 32 bytes.")
        self._key: Ed25519PrivateKey | MLDSA44PrivateKey
        try:
            if algorithm is Algorithm.ED25519:
                self._key = Ed25519PrivateKey.from_private_bytes(seed)
            else:
                self._key = MLDSA44PrivateKey.from_seed_bytes(seed)
        except UnsupportedAlgorithm as error:
            raise CheckpointError("This machine's cryptography has no ML-DSA.") from error
        self.public = WitnessKey(name, algorithm, self._key.public_key().public_bytes_raw())

    def cosign(self, text: str, time: int) -> str:
        """The cosignature line for a checkpoint's text, dated `time` (seconds since the epoch).

        It says that of all trees this witness saw of the log, this is the largest, and extends the
        others: so whoever calls this has made sure of it, durably.

        Raises:
            CheckpointError: the text is no checkpoint, or the time is none.
        """
        if not 0 < time <= _MAX_TIME:
            raise CheckpointError("A cosignature is dated after 1970.")
        message = _message(self.public.name, self.public.algorithm, text, time)
        stamped = self.public.key_id + time.to_bytes(8, "big") + self._key.sign(message)
        return signature_line(self.public.name, stamped)


def _message(name: str, algorithm: Algorithm, text: str, time: int) -> bytes:
    """What is signed (tlog-cosignature, "signed message")."""
    point = Checkpoint.parse(text)
    if algorithm is Algorithm.ED25519:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    return b"".join(
        (
            b"subtree/v1\n\x00",
            _short(name),
            time.to_bytes(8, "big"),
            _short(point.origin),
            (0).to_bytes(8, "big"),
            point.size.to_bytes(8, "big"),
            point.root,
        )
    )


def _short(text: str) -> bytes:
    raw = text.encode()
    if not 1 <= len(raw) <= 255:
        raise CheckpointError("A name under ML-DSA has 1 to 255 bytes.")
    return bytes([len(raw)]) + raw
