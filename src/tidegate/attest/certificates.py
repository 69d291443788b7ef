"""X.509 certificates and revocation lists (RFC 5280), taken apart. Pure.

What is here is what evidence needs: names are compared as bytes, extensions are kept as they are.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidegate.attest.der import (
    BOOLEAN,
    CONSTRUCTED_0,
    GENERALIZED_TIME,
    NULL,
    OCTET_STRING,
    PRIMITIVE_0,
    SEQUENCE,
    SET,
    UTC_TIME,
    Der,
    Element,
)
from tidegate.attest.errors import EvidenceError

BASIC_CONSTRAINTS: Final = "2.5.29.19"
KEY_USAGE: Final = "2.5.29.15"
SUBJECT_ALT_NAME: Final = "2.5.29.17"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"
KEY_CERT_SIGN: Final = 5
CRL_SIGN: Final = 6

MOST_CERTIFICATES: Final = 16
"""In one file: the deepest genuine chain has five, and a file may hold a chain twice."""
MOST_BYTES: Final = 1 << 24
"""Of a file: Intel's and AMD's longest lists stay below a megabyte."""

_PEM: Final = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9 ]{1,40})-----\s*(?P<body>[A-Za-z0-9+/=\s]*)"
    rb"-----END (?P=label)-----"
)
_SHORT: Final = {"2.5.4.3": "CN", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.5": "serial"}


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension, its value still DER."""

    oid: str
    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate. `issuer`, `subject`, `algorithm` and `spki` are DER as it was signed."""

    der: bytes
    tbs: bytes
    serial: int
    algorithm: bytes
    issuer: bytes
    not_before: datetime
    not_after: datetime
    subject: bytes
    spki: bytes
    extensions: tuple[Extension, ...]
    signature: bytes

    def extension(self, oid: str) -> Extension | None:
        return next((entry for entry in self.extensions if entry.oid == oid), None)

    @property
    def key_hash(self) -> bytes:
        """SHA-256 of the subject public key info: how trusted roots are named."""
        return hashlib.sha256(self.spki).digest()

    @property
    def name(self) -> str:
        """The subject for people: its common name, or what it has instead."""
        return name_text(self.subject)

    @property
    def authority(self) -> tuple[bool, int | None]:
        """Whether it may issue certificates, and how many more authorities may follow it."""
        entry = self.extension(BASIC_CONSTRAINTS)
        if entry is None:
            return False, None
        outer = Der(entry.value, "certificate", "basicConstraints")
        inside = outer.enter(SEQUENCE)
        outer.end()
        may = inside.boolean() if inside.next_is(BOOLEAN) else False
        depth = inside.integer() if inside.left else None
        inside.end()
        if depth is not None and depth < 0:
            raise EvidenceError("certificate", "basicConstraints", "has a depth below zero")
        return may, depth

    @property
    def usages(self) -> frozenset[int] | None:
        """The bits of keyUsage (RFC 5280, section 4.2.1.3), or None where it has none."""
        entry = self.extension(KEY_USAGE)
        if entry is None:
            return None
        reader = Der(entry.value, "certificate", "keyUsage")
        bits = reader.flags()
        reader.end()
        return bits


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """A certificate revocation list: what `issuer` revoked, as it was at `this_update`."""

    tbs: bytes
    algorithm: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime | None
    revoked: frozenset[int]
    critical: tuple[str, ...]
    signature: bytes


def _signed(der: bytes, kind: str, name: str) -> tuple[Element, bytes, bytes]:
    """What is signed, by which algorithm, and the signature, as in certificates and lists alike."""
    outer = Der(der, kind, name)
    whole = outer.enter(SEQUENCE)
    outer.end()
    tbs = whole.element(SEQUENCE)
    algorithm = whole.element(SEQUENCE).raw
    signature = whole.bit_string()
    whole.end()
    return tbs, algorithm, signature


def parse_certificate(der: bytes) -> Certificate:
    """A certificate from its DER. Raises `EvidenceError` for anything else."""
    kind = "certificate"
    tbs, algorithm, signature = _signed(der, kind, "certificate")
    inside = Der(tbs.body, kind, "tbsCertificate")
    version = inside.enter(CONSTRUCTED_0, "version")
    if version.integer() != 2:
        raise version.wrong("is not 3")
    version.end()
    serial = inside.integer()
    if inside.element(SEQUENCE).raw != algorithm:
        raise inside.wrong("names another signature algorithm than its signature")
    issuer = inside.element(SEQUENCE).raw
    validity = inside.enter(SEQUENCE, "validity")
    not_before, not_after = validity.time(), validity.time()
    validity.end()
    subject = inside.element(SEQUENCE).raw
    spki = inside.element(SEQUENCE).raw
    extensions: tuple[Extension, ...] = ()
    for unique in (PRIMITIVE_0 + 1, PRIMITIVE_0 + 2):
        if inside.next_is(unique):
            raise inside.wrong("has a unique identifier, which nobody uses")
    if inside.left:
        wrapped = inside.enter(CONSTRUCTED_0 + 3, "extensions")
        extensions = _extensions(wrapped)
        wrapped.end()
    inside.end()
    found = Certificate(
        der=der,
        tbs=tbs.raw,
        serial=serial,
        algorithm=algorithm,
        issuer=issuer,
        not_before=not_before,
        not_after=not_after,
        subject=subject,
        spki=spki,
        extensions=extensions,
        signature=signature,
    )
    _ = found.authority, found.usages, found.name, name_text(issuer)  # malformed ones raise here
    return found


def _extensions(wrapped: Der) -> tuple[Extension, ...]:
    found: list[Extension] = []
    entries = wrapped.enter(SEQUENCE)
    while entries.left:
        entry = entries.enter(SEQUENCE)
        oid = entry.oid()
        critical = entry.boolean() if entry.next_is(BOOLEAN) else False
        found.append(Extension(oid, critical, entry.bytes_of(OCTET_STRING)))
        entry.end()
        if len({extension.oid for extension in found}) < len(found):
            raise entry.wrong(f"has the extension {oid} twice")
    return tuple(found)


def parse_revocation_list(der: bytes) -> RevocationList:
    """A revocation list from its DER. Raises `EvidenceError` for anything else."""
    kind = "revocation list"
    tbs, algorithm, signature = _signed(der, kind, "certificateList")
    inside = Der(tbs.body, kind, "tbsCertList")
    if inside.integer() != 1:
        raise inside.wrong("is not of version 2")
    if inside.element(SEQUENCE).raw != algorithm:
        raise inside.wrong("names another signature algorithm than its signature")
    issuer = inside.element(SEQUENCE).raw
    name_text(issuer)
    this_update = inside.time()
    timed = inside.next_is(UTC_TIME) or inside.next_is(GENERALIZED_TIME)
    next_update = inside.time() if timed else None
    serials: set[int] = set()
    critical: list[str] = []
    if inside.next_is(SEQUENCE):
        entries = inside.enter(SEQUENCE, "revokedCertificates")
        while entries.left:
            entry = entries.enter(SEQUENCE)
            serials.add(entry.integer())
            entry.time()
            if entry.left:
                critical += [named.oid for named in _extensions(entry) if named.critical]
            entry.end()
    if inside.left:
        wrapped = inside.enter(CONSTRUCTED_0, "crlExtensions")
        critical += [named.oid for named in _extensions(wrapped) if named.critical]
        wrapped.end()
    inside.end()
    return RevocationList(
        tbs=tbs.raw,
        algorithm=algorithm,
        issuer=issuer,
        this_update=this_update,
        next_update=next_update,
        revoked=frozenset(serials),
        critical=tuple(critical),
        signature=signature,
    )


def name_text(name: bytes) -> str:
    """A distinguished name for people: its common name, else its other parts, else a dash."""
    outer = Der(name, "certificate", "name")
    parts: dict[str, str] = {}
    sets = outer.enter(SEQUENCE)
    outer.end()
    while sets.left:
        attributes = sets.enter(SET)
        while attributes.left:
            pair = attributes.enter(SEQUENCE)
            oid, value = pair.oid(), pair.any()
            pair.end()
            if oid in _SHORT:
                parts[_SHORT[oid]] = _printable(value.body)
    return parts.get("CN") or ", ".join(f"{key}={value}" for key, value in parts.items()) or "-"


def _printable(body: bytes) -> str:
    text = body.decode("utf-8", "replace")[:80]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def digest_name(algorithm: Der) -> str:
    """The hash that an AlgorithmIdentifier names: sha256, sha384 or sha512."""
    oid = algorithm.oid()
    if algorithm.next_is(NULL) and algorithm.any().body:
        raise algorithm.wrong("has parameters where none belong")
    algorithm.end()
    known = {
        "2.16.840.1.101.3.4.2.1": "sha256",
        "2.16.840.1.101.3.4.2.2": "sha384",
        "2.16.840.1.101.3.4.2.3": "sha512",
    }
    if oid not in known:
        raise algorithm.wrong(f"names the hash {oid}, which is not taken")
    return known[oid]


def pem_blocks(data: bytes, label: bytes, kind: str) -> tuple[bytes, ...]:
    """The DER of every PEM block (RFC 7468) with that label; text between blocks is passed over."""
    if len(data) > MOST_BYTES:
        raise EvidenceError(kind, "PEM", f"is longer than {MOST_BYTES} bytes")
    found: list[bytes] = []
    for match in _PEM.finditer(data):
        if match["label"] != label:
            continue
        try:
            found.append(binascii.a2b_base64(b"".join(match["body"].split()), strict_mode=True))
        except binascii.Error as error:
            raise EvidenceError(kind, "PEM", "has a block that is no base64") from error
    return tuple(found)


def parse_certificates(data: bytes) -> tuple[Certificate, ...]:
    """Every certificate of a file: PEM blocks, or one in DER. Raises `EvidenceError` for none."""
    if data[:1] == bytes([SEQUENCE]):
        return (parse_certificate(data),)
    blocks = pem_blocks(data, b"CERTIFICATE", "certificates")
    if not 1 <= len(blocks) <= MOST_CERTIFICATES:
        raise EvidenceError(
            "certificates", "PEM", f"has {len(blocks)} certificates, not 1 to {MOST_CERTIFICATES}"
        )
    return tuple(parse_certificate(block) for block in blocks)


def parse_revocation_lists(data: bytes) -> tuple[RevocationList, ...]:
    """Every revocation list of a file: PEM blocks, or one in DER."""
    if data[:1] == bytes([SEQUENCE]):
        return (parse_revocation_list(data),)
    blocks = pem_blocks(data, b"X509 CRL", "revocation list")
    if not blocks:
        raise EvidenceError("revocation list", "PEM", "holds none")
    return tuple(parse_revocation_list(block) for block in blocks)
