"""What Intel's PCK certificate says of a platform (its SGX extensions), taken apart. Pure.

After Intel's "SGX PCK Certificate and Certificate Revocation List Profile", section 1.3.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidegate.attest.certificates import Certificate
from tidegate.attest.der import INTEGER, OCTET_STRING, SEQUENCE, Der, Element
from tidegate.attest.errors import EvidenceError

SGX: Final = "1.2.840.113741.1.13.1"
PPID: Final = f"{SGX}.1"
TCB: Final = f"{SGX}.2"
PCE_ID: Final = f"{SGX}.3"
FMSPC: Final = f"{SGX}.4"
COMPONENTS: Final = 16

_KIND: Final = "PCK certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A platform: its id, its family (FMSPC), and the security versions Intel certifies for it.

    `components`: the sixteen security versions of the CPU. `pce_svn`: that of the enclave that
    certifies quoting enclaves.
    """

    ppid: bytes
    fmspc: bytes
    pce_id: bytes
    components: tuple[int, ...]
    pce_svn: int


def parse_platform(certificate: Certificate) -> Platform:
    """The platform that a PCK certificate is of. Raises `EvidenceError` for any other one."""
    extension = certificate.extension(SGX)
    if extension is None:
        raise EvidenceError(_KIND, "extensions", "has none of a platform")
    found = _pairs(extension.value, "SGX extensions")
    tcb = found.get(TCB)
    if tcb is None or tcb.tag != SEQUENCE:
        raise EvidenceError(_KIND, TCB, "is missing")
    levels = _pairs(tcb.raw, "TCB")
    components = tuple(_number(levels, f"{TCB}.{place}", 255) for place in range(1, COMPONENTS + 1))
    return Platform(
        ppid=_octets(found, PPID, 16),
        fmspc=_octets(found, FMSPC, 6),
        pce_id=_octets(found, PCE_ID, 2),
        components=components,
        pce_svn=_number(levels, f"{TCB}.17", 65535),
    )


def _pairs(data: bytes, field: str) -> dict[str, Element]:
    """A sequence of pairs of object identifier and value, none twice."""
    outer = Der(data, _KIND, field)
    entries = outer.enter(SEQUENCE)
    outer.end()
    found: dict[str, Element] = {}
    while entries.left:
        pair = entries.enter(SEQUENCE)
        oid = pair.oid()
        if oid in found:
            raise pair.wrong(f"has {oid} twice")
        found[oid] = pair.any()
        pair.end()
    return found


def _octets(found: dict[str, Element], oid: str, size: int) -> bytes:
    element = found.get(oid)
    if element is None or element.tag != OCTET_STRING or len(element.body) != size:
        raise EvidenceError(_KIND, oid, f"is not there as {size} bytes")
    return element.body


def _number(found: dict[str, Element], oid: str, most: int) -> int:
    element = found.get(oid)
    if element is None or element.tag != INTEGER:
        raise EvidenceError(_KIND, oid, "is not there as a number")
    value = Der(element.raw, _KIND, oid).integer()
    if not 0 <= value <= most:
        raise EvidenceError(_KIND, oid, f"is {value}, not 0 to {most}")
    return value
