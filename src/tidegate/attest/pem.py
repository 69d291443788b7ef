"""Certificates in PEM that have one spelling only. Pure.

A chain that comes inside evidence is signed certificate by certificate, but the PEM around it is
not. Asking for the one spelling that makers use leaves no byte that could say two things.
"""

from __future__ import annotations

import binascii

from tidegate.attest.certificates import Certificate, parse_certificates
from tidegate.attest.errors import EvidenceError


def strict_chain(pem: bytes, kind: str) -> tuple[Certificate, ...]:
    """The certificates of a PEM file, in its order.

    Nothing else may be there, and lines have 64 letters (RFC 7468); a line's end and a zero may
    close it. Raises `EvidenceError` for any other spelling, too.
    """
    text = pem.removesuffix(b"\0").removesuffix(b"\n")
    found = parse_certificates(text)
    if text != b"\n".join(_pem(certificate.der) for certificate in found):
        raise EvidenceError(kind, "certificates", "are not spelt as their maker spells them")
    return found


def _pem(der: bytes) -> bytes:
    body = binascii.b2a_base64(der, newline=False)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----"])
