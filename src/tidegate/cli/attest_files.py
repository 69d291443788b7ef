"""Which of the files handed to `tidegate attest` is the evidence, and what the others are."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.attest.certificates import parse_certificate, parse_revocation_list
from tidegate.attest.errors import EvidenceError
from tidegate.attest.kinds import KINDS, Companions, Kind, kind_of
from tidegate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sorted:
    """One file of evidence of a kind, and what came along with it."""

    kind: Kind
    evidence: bytes
    companions: Companions
    crls: tuple[bytes, ...]


def sort_files(files: Sequence[bytes], given: Kind | None) -> Sorted:
    """Tell evidence, certificates, revocation lists and the rest apart.

    With a kind given, the evidence is the one file that is recognised as it, else the one that is
    none of the others. Raises `ConfigError` where there is not exactly one.
    """
    crls = [data for data in files if _is_list(data)]
    certificates = [data for data in files if _is_certificate(data)]
    rest = [_unhexed(data) for data in files if data not in crls and data not in certificates]
    mains = [data for data in rest if (kind_of(data) if given is None else given.recognise(data))]
    if given is not None and not mains and len(rest) == 1:
        mains = rest
    if len(mains) != 1:
        known = ", ".join(kind.name for kind in KINDS)
        raise ConfigError(
            f"Of {len(files)} files {len(mains)} are evidence, and it must be one. Kinds that are "
            f"recognised: {known}; with --kind a file is taken for one of them."
        )
    kind = given or kind_of(mains[0])
    if kind is None:
        raise ConfigError("The evidence is of no kind that is known.")
    others = tuple(data for data in rest if data is not mains[0])
    return Sorted(kind, mains[0], Companions(tuple(certificates), others), tuple(crls))


def _is_list(data: bytes) -> bool:
    if b"-----BEGIN X509 CRL-----" in data:
        return True
    if data[:1] != b"\x30":
        return False
    try:
        parse_revocation_list(data)
    except EvidenceError:
        return False
    return True


def _is_certificate(data: bytes) -> bool:
    """PEM that begins with one (text may stand before), or DER."""
    if data.lstrip()[:1] not in (b"{", b"[", b"<") and b"-----BEGIN CERTIFICATE-----" in data:
        return not kind_of(data)
    if data[:1] != b"\x30":
        return False
    try:
        parse_certificate(data)
    except EvidenceError:
        return False
    return True


def _unhexed(data: bytes) -> bytes:
    """A file of hex alone that is evidence once it is read as bytes; others as they are."""
    text = b"".join(data.split())
    if kind_of(data) is not None or len(text) % 2 or not re.fullmatch(rb"[0-9A-Fa-f]+", text):
        return data
    plain = binascii.unhexlify(text)
    return plain if kind_of(plain) is not None else data
