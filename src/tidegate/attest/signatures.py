"""Signatures under keys that came with evidence: RSA and ECDSA, nothing weaker than SHA-256. Pure.

A key or a signature that cannot be read does not verify; nothing here raises for what it is given
but `EvidenceError` for an algorithm identifier that is malformed or not taken.
"""

from __future__ import annotations

from typing import Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tidegate.attest.certificates import digest_name
from tidegate.attest.der import CONSTRUCTED_0, NULL, SEQUENCE, Der

LEAST_RSA_BITS: Final = 2048
MOST_RSA_BITS: Final = 8192
"""More would let whoever sent a key decide how long a verification takes."""

Scheme = Literal["rsa", "rsa-pss", "ecdsa"]
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_PLAIN: Final[dict[str, tuple[Scheme, str]]] = {
    "1.2.840.113549.1.1.11": ("rsa", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    "1.2.840.10045.4.3.2": ("ecdsa", "sha256"),
    "1.2.840.10045.4.3.3": ("ecdsa", "sha384"),
    "1.2.840.10045.4.3.4": ("ecdsa", "sha512"),
}
_PSS: Final = "1.2.840.113549.1.1.10"
_MGF1: Final = "1.2.840.113549.1.1.8"
_SIZES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}


def hash_of(name: str) -> hashes.HashAlgorithm:
    """sha256, sha384 or sha512 by name."""
    kinds = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
    return kinds[name]


def load_key(spki: bytes) -> PublicKey | None:
    """A public key from its subject public key info; None where it is not one that is taken."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return taken(key)


def taken(key: object) -> PublicKey | None:
    """The key, if it is RSA of 2048 to 8192 bits or ECDSA on P-256, P-384 or P-521."""
    if isinstance(key, rsa.RSAPublicKey) and LEAST_RSA_BITS <= key.key_size <= MOST_RSA_BITS:
        return key
    curves = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curves):
        return key
    return None


def verifies(
    key: PublicKey | None, scheme: Scheme, digest: str, signature: bytes, data: bytes
) -> bool:
    """Whether `signature` is the key's over `data`; PSS with a salt as long as the hash."""
    try:
        match key, scheme:
            case rsa.RSAPublicKey(), "rsa":
                key.verify(signature, data, padding.PKCS1v15(), hash_of(digest))
            case rsa.RSAPublicKey(), "rsa-pss":
                mask = padding.MGF1(hash_of(digest))
                pss = padding.PSS(mask, salt_length=_SIZES[digest])
                key.verify(signature, data, pss, hash_of(digest))
            case ec.EllipticCurvePublicKey(), "ecdsa":
                key.verify(signature, data, ec.ECDSA(hash_of(digest)))
            case _:
                return False
    except (InvalidSignature, ValueError):
        return False
    return True


def ecdsa_verifies(key: PublicKey | None, digest: str, r: int, s: int, data: bytes) -> bool:
    """The same for a signature that is given as its two numbers."""
    if r <= 0 or s <= 0:
        return False
    return verifies(key, "ecdsa", digest, encode_dss_signature(r, s), data)


def algorithm_of(identifier: bytes, kind: str) -> tuple[Scheme, str]:
    """Scheme and hash of an AlgorithmIdentifier (RFC 4055, RFC 5758) given as DER."""
    outer = Der(identifier, kind, "signatureAlgorithm")
    inside = outer.enter(SEQUENCE)
    outer.end()
    oid = inside.oid()
    if oid in _PLAIN:
        if inside.next_is(NULL) and inside.any().body:
            raise inside.wrong("has parameters where none belong")
        inside.end()
        return _PLAIN[oid]
    if oid != _PSS:
        raise inside.wrong(f"is {oid}, which is not taken")
    parameters = inside.enter(SEQUENCE, "RSASSA-PSS parameters")
    inside.end()
    digest = digest_name(_tagged(parameters, 0).enter(SEQUENCE))
    mask = _tagged(parameters, 1).enter(SEQUENCE)
    if mask.oid() != _MGF1 or digest_name(mask.enter(SEQUENCE)) != digest:
        raise parameters.wrong("mask with another hash than they sign with")
    mask.end()
    if _tagged(parameters, 2).integer() != _SIZES[digest]:
        raise parameters.wrong("salt with another length than the hash has")
    if parameters.left and _tagged(parameters, 3).integer() != 1:
        raise parameters.wrong("name an unknown trailer")
    parameters.end()
    return "rsa-pss", digest


def _tagged(reader: Der, number: int) -> Der:
    return reader.enter(CONSTRUCTED_0 + number)
