"""Made-up certificate authorities for evidence: keys from labels, certificates byte by byte.

Nothing here is secret, and no key of it may ever be trusted. Certificates are put together as DER
by hand, since a library refuses to make what must be refused: serial number 0, wrong versions.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FROM = datetime(2024, 1, 1, tzinfo=UTC)
UNTIL = datetime(2034, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""When the made-up evidence is appraised, unless a case says otherwise."""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def drawn(label: str, size: int) -> bytes:
    """Bytes that the label alone determines."""
    return hashlib.shake_256(b"tidegate evidence vectors: " + label.encode()).digest(size)


@functools.cache
def ec_key(label: str, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """The ECDSA key of that label, on P-384 unless said otherwise."""
    chosen = curve or ec.SECP384R1()
    return ec.derive_private_key(int.from_bytes(drawn(label, 24), "big") + 1, chosen)


@functools.cache
def rsa_key(label: str) -> rsa.RSAPrivateKey:
    """The RSA key of 2048 bits of that label."""
    p, q = (_prime(f"{label} {name}") for name in "pq")
    exponent = 65537
    d = pow(exponent, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=d % (p - 1),
        dmq1=d % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(exponent, p * q),
    )
    return numbers.private_key()


def _prime(label: str) -> int:
    """The first likely prime of 1024 bits from there on that suits an exponent of 65537."""
    number = int.from_bytes(drawn(label, 128), "big") | 3 << 1022 | 1
    while (
        math.gcd(number, _SMALL) > 1
        or number % 65537 == 1
        or any(pow(base, number - 1, number) != 1 for base in (2, 3))
    ):
        number += 2
    return number


_SMALL = math.prod(n for n in range(3, 4000, 2) if all(n % d for d in range(3, 64, 2) if d < n))


def spki(key: Key) -> bytes:
    """The subject public key info."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def tlv(tag: int, *parts: bytes) -> bytes:
    """One element of DER."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(dots: str) -> bytes:
    first, second, *rest = map(int, dots.split("."))
    out = b""
    for arc in (40 * first + second, *rest):
        part = [arc & 0x7F]
        while arc := arc >> 7:
            part.append(arc & 0x7F | 0x80)
        out += bytes(reversed(part))
    return tlv(0x06, out)


def name(common: str) -> bytes:
    """A distinguished name; what follows a bar in `common` is its serial number."""
    common, _, serial = common.partition("|")
    parts = [("2.5.4.3", common), ("2.5.4.5", serial)]
    return tlv(
        0x30,
        *(
            tlv(0x31, tlv(0x30, oid(dots), tlv(0x0C, said.encode())))
            for dots, said in parts
            if said
        ),
    )


def time(when: datetime) -> bytes:
    if when.year < 2050:
        return tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, when.strftime("%Y%m%d%H%M%SZ").encode())


def extension(dots: str, value: bytes, critical: bool = False) -> bytes:
    return tlv(0x30, oid(dots), tlv(0x01, b"\xff") if critical else b"", tlv(0x04, value))


def algorithm(key: Key) -> bytes:
    """ECDSA with SHA-384 (on P-256 with SHA-256), or RSA (PKCS #1 v1.5) with SHA-256."""
    if isinstance(key, rsa.RSAPrivateKey):
        return tlv(0x30, oid("1.2.840.113549.1.1.11"), tlv(0x05))
    if key.key_size == 256:
        return tlv(0x30, oid("1.2.840.10045.4.3.2"))
    return tlv(0x30, oid("1.2.840.10045.4.3.3"))


def signature(key: Key, data: bytes) -> bytes:
    """A signature that is the same every time."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    digest = hashes.SHA256() if key.key_size == 256 else hashes.SHA384()
    return key.sign(data, ec.ECDSA(digest, deterministic_signing=True))


def signed(tbs: bytes, key: Key) -> bytes:
    return tlv(0x30, tbs, algorithm(key), tlv(0x03, b"\0", signature(key, tbs)))


@dataclass(frozen=True)
class Authority:
    """Something that issues certificates under a name and a key."""

    common: str
    key: Key
    certificate: bytes
    serial: int = 1

    @property
    def pin(self) -> bytes:
        return hashlib.sha256(spki(self.key)).digest()

    def certify(
        self,
        subject: str,
        key: Key,
        extensions: bytes = b"",
        *,
        serial: int = 0,
        start: datetime = FROM,
        end: datetime = UNTIL,
    ) -> bytes:
        """A certificate for `key`, under this authority's."""
        return certificate(
            subject, key, self.common, self.key, extensions, serial=serial, start=start, end=end
        )

    def authority(
        self, common: str, label: str, *, serial: int, extensions: bytes | None = None
    ) -> Authority:
        """One below this one."""
        key = ec_key(label)
        der = self.certify(
            common, key, authority_extensions() if extensions is None else extensions, serial=serial
        )
        return Authority(common, key, der, serial)

    def revoke(
        self,
        *serials: int,
        start: datetime = FROM,
        end: datetime | None = UNTIL,
        key: Key | None = None,
        extensions: bytes = b"",
    ) -> bytes:
        """A revocation list; with another `key`, one that this authority did not sign."""
        entries = b"".join(tlv(0x30, integer(serial), time(FROM)) for serial in serials)
        signer = key or self.key
        tbs = tlv(
            0x30,
            integer(1),
            algorithm(signer),
            name(self.common),
            time(start),
            time(end) if end else b"",
            tlv(0x30, entries) if entries else b"",
            tlv(0xA0, tlv(0x30, extensions)) if extensions else b"",
        )
        return signed(tbs, signer)


def certificate(
    subject: str,
    key: Key,
    issuer: str,
    signer: Key,
    extensions: bytes = b"",
    *,
    serial: int = 0,
    start: datetime = FROM,
    end: datetime = UNTIL,
) -> bytes:
    """A certificate of version 3."""
    tbs = tlv(
        0x30,
        tlv(0xA0, integer(2)),
        integer(serial),
        algorithm(signer),
        name(issuer),
        tlv(0x30, time(start), time(end)),
        name(subject),
        spki(key),
        tlv(0xA3, tlv(0x30, extensions)) if extensions else b"",
    )
    return signed(tbs, signer)


def authority_extensions(depth: int | None = None) -> bytes:
    """basicConstraints and keyUsage of something that may issue certificates and lists."""
    limit = b"" if depth is None else integer(depth)
    constraints = tlv(0x30, tlv(0x01, b"\xff"), limit)
    usage = tlv(0x03, b"\x01\x06")  # keyCertSign and cRLSign
    return extension("2.5.29.19", constraints, True) + extension("2.5.29.15", usage, True)


@functools.cache
def root(common: str, depth: int | None = None) -> Authority:
    """A root of that name."""
    key = ec_key(common)
    der = certificate(common, key, common, key, authority_extensions(depth), serial=1)
    return Authority(common, key, der)
