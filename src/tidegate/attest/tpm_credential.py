"""The credential that only one TPM can open: how an attestation key is tied to an endorsement key.

After "Trusted Platform Module Library, Part 1: Architecture", section 24, and Annexes B and C. The
secret comes back only from a TPM that holds the endorsement key and has loaded a key of that name.
This is the one place in the room that draws randomness.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from tidegate.attest.errors import EvidenceError
from tidegate.attest.signatures import hash_of
from tidegate.attest.tpm_structures import HASH_SIZES, Public

_LABEL: Final = b"IDENTITY\0"
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Credential:
    """What is sent to the TPM: a TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET."""

    blob: bytes
    seed: bytes


def make_credential(ek: Public, ak_name: bytes, secret: bytes) -> Credential:
    """Wrap `secret` (32 bytes at most) for the TPM of `ek`, to be opened beside the key `ak_name`.

    Raises `EvidenceError` where the endorsement key is none that can take it.
    """
    if not {"restricted", "decrypt", "fixedTPM"} <= ek.attributes or ek.symmetric_bits is None:
        raise EvidenceError("tpm", "ek.objectAttributes", "is no key for storing others under")
    size = HASH_SIZES[ek.name_hash]
    if not 1 <= len(secret) <= size:
        raise EvidenceError("tpm", "secret", f"has {len(secret)} bytes, not 1 to {size}")
    seed, sent = _seed(ek)
    storage = kdf_a(ek.name_hash, seed, b"STORAGE", ak_name, b"", ek.symmetric_bits)
    encryptor = Cipher(AES(storage), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    integrity = kdf_a(ek.name_hash, seed, b"INTEGRITY", b"", b"", size * 8)
    outer = hmac.digest(integrity, identity + ak_name, ek.name_hash)
    return Credential(_sized(_sized(outer) + identity), _sized(sent))


def new_secret() -> bytes:
    """A secret nobody has seen."""
    return secrets.token_bytes(SECRET_BYTES)


def _seed(ek: Public) -> tuple[bytes, bytes]:
    """A seed that both sides know, and what is sent so that the TPM knows it."""
    size = HASH_SIZES[ek.name_hash]
    match ek.key:
        case rsa.RSAPublicKey() as key:
            seed = secrets.token_bytes(size)
            digest = hash_of(ek.name_hash)
            return seed, key.encrypt(seed, padding.OAEP(padding.MGF1(digest), digest, _LABEL))
        case ec.EllipticCurvePublicKey() as key:
            ours = ec.generate_private_key(key.curve)
            width = (key.curve.key_size + 7) // 8
            shared = ours.exchange(ec.ECDH(), key)
            mine, theirs = ours.public_key().public_numbers(), key.public_numbers()
            x, y = mine.x.to_bytes(width, "big"), mine.y.to_bytes(width, "big")
            other = theirs.x.to_bytes(width, "big")
            seed = kdf_e(ek.name_hash, shared, _LABEL, x, other, size * 8)
            return seed, _sized(x) + _sized(y)
        case _:
            raise EvidenceError("tpm", "ek.unique", "is no key that is taken")


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def kdf_a(name: str, key: bytes, label: bytes, one: bytes, other: bytes, bits: int) -> bytes:
    """KDFa (Part 1, 11.4.10.2): HMAC in counter mode after NIST SP 800-108."""
    out, counter = b"", 0
    while len(out) * 8 < bits:
        counter += 1
        text = counter.to_bytes(4, "big") + label + b"\0" + one + other + bits.to_bytes(4, "big")
        out += hmac.digest(key, text, name)
    return out[: bits // 8]


def kdf_e(name: str, shared: bytes, label: bytes, one: bytes, other: bytes, bits: int) -> bytes:
    """KDFe (Part 1, 11.4.10.3): a hash in counter mode after NIST SP 800-56A."""
    out, counter = b"", 0
    while len(out) * 8 < bits:
        counter += 1
        text = counter.to_bytes(4, "big") + shared + label + one + other
        out += hashlib.new(name, text).digest()
    return out[: bits // 8]
