"""TPM 2.0 structures, taken apart. Pure.

After "Trusted Platform Module Library, Part 2: Structures" (TCG, revision 1.59); the section is
named at each. Numbers are big-endian; a TPM2B is two bytes of size, then that many bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tidegate.attest.cursor import Cursor
from tidegate.attest.signatures import PublicKey, Scheme, ecdsa_verifies, taken, verifies

KIND: Final = "tpm"
HASHES: Final = {0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
"""TPM_ALG_ID of the hashes that are taken. SHA-1 banks may be there; nothing rests on them."""
HASH_SIZES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
BANKS: Final = {0x0004: "sha1", **HASHES}
BANK_SIZES: Final = {"sha1": 20, **HASH_SIZES}
PCRS: Final = 24

_RSA, _ECC, _NULL, _AES, _CFB = 0x0001, 0x0023, 0x0010, 0x0006, 0x0043
_RSASSA, _RSAPSS, _ECDSA = 0x0014, 0x0016, 0x0018
_CURVES: Final[dict[int, tuple[ec.EllipticCurve, int]]] = {
    0x0003: (ec.SECP256R1(), 32),
    0x0004: (ec.SECP384R1(), 48),
}
GENERATED: Final = bytes.fromhex("ff544347")
"""TPM_GENERATED_VALUE: a restricted key signs what begins so only where the TPM itself wrote it."""
_QUOTE: Final = 0x8018

_ATTRIBUTES: Final = {
    1: "fixedTPM",
    2: "stClear",
    4: "fixedParent",
    5: "sensitiveDataOrigin",
    6: "userWithAuth",
    7: "adminWithPolicy",
    10: "noDA",
    11: "encryptedDuplication",
    16: "restricted",
    17: "decrypt",
    18: "sign",
    19: "x509sign",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A key's public area (TPMT_PUBLIC, 12.2.4). `name` is what the TPM calls it (Part 1, 16)."""

    raw: bytes
    name_hash: str
    attributes: frozenset[str]
    policy: bytes
    symmetric_bits: int | None
    key: PublicKey | None

    @property
    def name(self) -> bytes:
        """Hash algorithm and hash of the public area."""
        return self.raw[2:4] + hashlib.new(self.name_hash, self.raw).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a quote says (TPMS_ATTEST with TPMS_QUOTE_INFO, 10.12)."""

    raw: bytes
    signer: bytes
    nonce: bytes
    clock: int
    resets: int
    restarts: int
    safe: bool
    firmware: int
    selection: tuple[tuple[str, tuple[int, ...]], ...]
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature (TPMT_SIGNATURE, 11.3.4): the scheme, its hash, and one or two numbers."""

    scheme: Scheme
    digest: str
    numbers: tuple[bytes, ...]

    def holds(self, key: PublicKey | None, data: bytes) -> bool:
        """Whether it is that key's over `data`."""
        if self.scheme == "ecdsa":
            r, s = (int.from_bytes(number, "big") for number in self.numbers)
            return ecdsa_verifies(key, self.digest, r, s, data)
        return verifies(key, self.scheme, self.digest, self.numbers[0], data)


def tpm2b(cursor: Cursor, field: str, most: int = 1024) -> bytes:
    """A TPM2B of at most `most` bytes."""
    size = cursor.number(2, f"{field}.size", "big")
    if size > most:
        raise cursor.error(field, f"has {size} bytes, at most {most} can be")
    return cursor.take(size, field)


def parse_public(data: bytes) -> Public:
    """A TPMT_PUBLIC, or a TPM2B_PUBLIC that holds one. Raises `EvidenceError`."""
    cursor = Cursor(KIND, data)
    if len(data) > 2 and int.from_bytes(data[:2], "big") == len(data) - 2:
        cursor.take(2, "public.size")
        data = data[2:]
    kind = cursor.number(2, "public.type", "big")
    name_hash = _hash(cursor, "public.nameAlg")
    bits = cursor.number(4, "public.objectAttributes", "big")
    unknown = bits & ~sum(1 << bit for bit in _ATTRIBUTES)
    if unknown:
        raise cursor.error("public.objectAttributes", f"{unknown:#x} are of unknown meaning")
    attributes = frozenset(name for bit, name in _ATTRIBUTES.items() if bits >> bit & 1)
    policy = tpm2b(cursor, "public.authPolicy", 64)
    symmetric = _symmetric(cursor)
    _scheme(cursor)
    if kind == _RSA:
        key = _rsa(cursor)
    elif kind == _ECC:
        key = _ecc(cursor)
    else:
        raise cursor.error("public.type", f"{kind:#06x} is neither RSA nor ECC")
    cursor.end("public")
    return Public(
        raw=data,
        name_hash=name_hash,
        attributes=attributes,
        policy=policy,
        symmetric_bits=symmetric,
        key=key,
    )


def _hash(cursor: Cursor, field: str) -> str:
    code = cursor.number(2, field, "big")
    if code not in HASHES:
        raise cursor.error(field, f"{code:#06x} is no hash that is taken")
    return HASHES[code]


def _symmetric(cursor: Cursor) -> int | None:
    field = "public.symmetric"
    algorithm = cursor.number(2, field, "big")
    if algorithm == _NULL:
        return None
    bits, mode = cursor.number(2, field, "big"), cursor.number(2, field, "big")
    if algorithm != _AES or bits not in (128, 256) or mode != _CFB:
        raise cursor.error(field, "is not AES in CFB mode")
    return bits


def _scheme(cursor: Cursor) -> None:
    field = "public.scheme"
    scheme = cursor.number(2, field, "big")
    if scheme == _NULL:
        return
    if scheme not in (_RSASSA, _RSAPSS, _ECDSA):
        raise cursor.error(field, f"{scheme:#06x} is no scheme that is taken")
    _hash(cursor, field)


def _rsa(cursor: Cursor) -> PublicKey | None:
    bits = cursor.number(2, "public.keyBits", "big")
    exponent = cursor.number(4, "public.exponent", "big") or 65537
    modulus = tpm2b(cursor, "public.unique", 1024)
    if len(modulus) * 8 != bits:
        raise cursor.error("public.unique", f"has {len(modulus) * 8} bits, keyBits says {bits}")
    return rsa_key(int.from_bytes(modulus, "big"), exponent)


def rsa_key(modulus: int, exponent: int) -> PublicKey | None:
    """An RSA key from its numbers; None where they are none that is taken."""
    try:
        return taken(rsa.RSAPublicNumbers(exponent, modulus).public_key())
    except ValueError:
        return None


def _ecc(cursor: Cursor) -> PublicKey | None:
    curve = cursor.number(2, "public.curveID", "big")
    if curve not in _CURVES:
        raise cursor.error("public.curveID", f"{curve:#06x} is neither P-256 nor P-384")
    if cursor.number(2, "public.kdf", "big") != _NULL:
        raise cursor.error("public.kdf", "is not null")
    kind, size = _CURVES[curve]
    x, y = tpm2b(cursor, "public.x", size), tpm2b(cursor, "public.y", size)
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), kind
    )
    try:
        return taken(numbers.public_key())
    except ValueError:
        return None


def parse_quote(data: bytes) -> Quote:
    """A quote from its TPMS_ATTEST. Raises `EvidenceError` for anything else."""
    cursor = Cursor(KIND, data)
    cursor.exactly(GENERATED, "attest.magic")
    if cursor.number(2, "attest.type", "big") != _QUOTE:
        raise cursor.error("attest.type", "is no quote")
    signer = tpm2b(cursor, "attest.qualifiedSigner", 66)
    nonce = tpm2b(cursor, "attest.extraData", 66)
    clock = cursor.number(8, "clockInfo.clock", "big")
    resets = cursor.number(4, "clockInfo.resetCount", "big")
    restarts = cursor.number(4, "clockInfo.restartCount", "big")
    safe = cursor.number(1, "clockInfo.safe", "big")
    if safe > 1:
        raise cursor.error("clockInfo.safe", f"{safe} is neither yes nor no")
    firmware = cursor.number(8, "attest.firmwareVersion", "big")
    selection = _selection(cursor)
    digest = tpm2b(cursor, "quote.pcrDigest", 64)
    cursor.end("attest")
    return Quote(
        raw=data,
        signer=signer,
        nonce=nonce,
        clock=clock,
        resets=resets,
        restarts=restarts,
        safe=bool(safe),
        firmware=firmware,
        selection=selection,
        digest=digest,
    )


def _selection(cursor: Cursor) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """TPML_PCR_SELECTION (10.9.7): which registers of which banks, in the quote's order."""
    field = "quote.pcrSelect"
    count = cursor.number(4, field, "big")
    if count > len(BANKS):
        raise cursor.error(field, f"has {count} banks")
    found: list[tuple[str, tuple[int, ...]]] = []
    for _ in range(count):
        code = cursor.number(2, field, "big")
        if code not in BANKS:
            raise cursor.error(field, f"{code:#06x} is no bank that is known")
        size = cursor.number(1, field, "big")
        if not 1 <= size <= 4:
            raise cursor.error(field, f"selects with {size} bytes")
        bits = int.from_bytes(cursor.take(size, field), "little")
        if bits >> PCRS:
            raise cursor.error(field, "selects a register that there is not")
        found.append((BANKS[code], tuple(at for at in range(PCRS) if bits >> at & 1)))
    if len({bank for bank, _ in found}) < len(found):
        raise cursor.error(field, "names a bank twice")
    return tuple(found)


def parse_signature(data: bytes) -> Signature:
    """A TPMT_SIGNATURE. Raises `EvidenceError` for anything else."""
    cursor = Cursor(KIND, data)
    code = cursor.number(2, "signature.sigAlg", "big")
    schemes: dict[int, Scheme] = {_RSASSA: "rsa", _RSAPSS: "rsa-pss", _ECDSA: "ecdsa"}
    if code not in schemes:
        raise cursor.error("signature.sigAlg", f"{code:#06x} is no scheme that is taken")
    digest = _hash(cursor, "signature.hash")
    fields = ("signature.r", "signature.s") if code == _ECDSA else ("signature.sig",)
    numbers = tuple(tpm2b(cursor, field, 1024) for field in fields)
    cursor.end("signature")
    return Signature(scheme=schemes[code], digest=digest, numbers=numbers)
