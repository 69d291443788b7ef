"""Evidence of NVIDIA devices: a report with its certificates, alone or as NVIDIA's tools save it.

A device's certificates name it: the first is of its firmware's key and bears the firmware's id, the
second of the key that is burnt in. Pure.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from tidegate.attest import nvidia_report
from tidegate.attest.certificates import Certificate
from tidegate.attest.der import CONSTRUCTED_0, INTEGER, OCTET_STRING, SEQUENCE, SET, Der
from tidegate.attest.errors import EvidenceError
from tidegate.attest.nvidia_report import KIND, Report
from tidegate.attest.pem import strict_chain

MOST_BYTES: Final = 1 << 22
"""Of a file: eight GPUs take 100 KB."""
MOST_DEVICES: Final = 128

_DICE_COMPOSITE: Final = "2.23.133.5.4.1"
_DICE_TCB_INFO: Final = "2.23.133.5.4.1.1"
_SERIAL_NUMBER: Final = "2.5.4.5"
_HASH: Final = 48

Family = Literal["hopper", "blackwell", "nvswitch"]
_FAMILIES: Final[dict[str, Family]] = {"GH": "hopper", "GB": "blackwell", "LS_": "nvswitch"}
_ARCHITECTURES: Final[dict[str, Family]] = {
    "HOPPER": "hopper",
    "BLACKWELL": "blackwell",
    "LS10": "nvswitch",
}

_Base64 = Annotated[str, msgspec.Meta(max_length=1 << 18)]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one device said: its report, and the certificates that came along, leaf first."""

    report: Report
    certificates: tuple[Certificate, ...]

    @property
    def chip(self) -> str:
        """The chip as the leaf certificate names it, such as GH100, GB100, LS_10."""
        return self.certificates[0].name.split(" ")[0]

    @property
    def family(self) -> Family | None:
        """What that chip is, or None for one that is not known."""
        return next(
            (kind for start, kind in _FAMILIES.items() if self.chip.startswith(start)), None
        )

    @property
    def device(self) -> bytes:
        """The hash of the key that is burnt into the device; of the leaf's where it came alone."""
        return self.certificates[min(1, len(self.certificates) - 1)].key_hash

    @property
    def pdi(self) -> bytes | None:
        """The id by which switches name a GPU and GPUs a switch; None where no certificate has it.

        The serial number of the burnt-in key's certificate is that id after a letter of its kind.
        """
        if len(self.certificates) < 2:
            return None
        try:
            found = bytes.fromhex(_serial_number(self.certificates[1].subject))
        except ValueError:
            return None
        return found[1:] if len(found) == nvidia_report.PDI + 1 else None


class _Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device in a file of NVIDIA's tools. Beside report and certificates nothing is signed."""

    arch: Literal["HOPPER", "BLACKWELL", "LS10"]
    certificate: _Base64
    evidence: _Base64
    nonce: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    version: Literal["1.0"] = "1.0"
    driver_version: str | None = None
    vbios_version: str | None = None


_Several = Annotated[tuple[_Saved, ...], msgspec.Meta(min_length=1, max_length=MOST_DEVICES)]


def parse(report: bytes, certificates: bytes) -> Evidence:
    """Evidence from a report's bytes and its certificates in PEM. Raises `EvidenceError`."""
    found = Evidence(nvidia_report.parse(report), strict_chain(certificates, KIND))
    _ = found.family, firmware_id(found.certificates[0])  # malformed ones raise here
    if found.pdi is None and len(found.certificates) > 1:
        raise EvidenceError(KIND, "certificates", "name no device")
    return found


def parse_saved(data: bytes) -> tuple[Evidence, ...]:
    """Every device of a file as NVIDIA's tools save it. Raises `EvidenceError` for anything else.

    What the file says of a device beside its report must be what the report says.
    """
    if len(data) > MOST_BYTES:
        raise EvidenceError(KIND, "file", f"is longer than {MOST_BYTES} bytes")
    try:
        entries = msgspec.json.decode(data, type=_Several)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EvidenceError(KIND, "file", str(error)[:200]) from error
    return tuple(_saved(entry, place) for place, entry in enumerate(entries))


def _saved(entry: _Saved, place: int) -> Evidence:
    found = parse(
        _base64(entry.evidence, f"device {place}: evidence"),
        _base64(entry.certificate, f"device {place}: certificate"),
    )
    report = found.report
    pairs = (
        ("arch", _ARCHITECTURES[entry.arch], found.family),
        ("nonce", entry.nonce, report.nonce.hex()),
        ("driver_version", entry.driver_version or report.driver, report.driver),
        ("vbios_version", entry.vbios_version or report.vbios, report.vbios),
    )
    for name, said, signed in pairs:
        if said != signed:
            raise EvidenceError(KIND, f"device {place}: {name}", f"is {said}, signed is {signed}")
    return found


def _base64(text: str, field: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise EvidenceError(KIND, field, "is no base64") from error


def _serial_number(name: bytes) -> str:
    """The serialNumber of a distinguished name, or nothing."""
    sets = Der(name, KIND, "subject").enter(SEQUENCE)
    while sets.left:
        attributes = sets.enter(SET)
        while attributes.left:
            pair = attributes.enter(SEQUENCE)
            if pair.oid() == _SERIAL_NUMBER:
                return pair.any().body.decode("ascii", "replace")
    return ""


def firmware_id(leaf: Certificate) -> bytes | None:
    """The SHA-384 of the firmware whose key this certificate is of, or None where it names none.

    Hopper has it as DICE's composite device id, Blackwell as DICE's TcbInfo (TCG "DICE Attestation
    Architecture", section 6.1), of whose list the first counts.
    """
    composite = leaf.extension(_DICE_COMPOSITE)
    if composite is not None:
        inside = _whole(composite.value)
        inside.element(INTEGER)
        inside.element(SEQUENCE)
        found = _digest(inside)
        inside.end()
        return found
    tcb_info = leaf.extension(_DICE_TCB_INFO)
    if tcb_info is None:
        return None
    inside = _whole(tcb_info.value)
    while inside.left and not inside.next_is(CONSTRUCTED_0 + 6):
        inside.any()
    return _digest(inside.enter(CONSTRUCTED_0 + 6, "firmware ids"))


def _whole(value: bytes) -> Der:
    outer = Der(value, KIND, "firmware id")
    inside = outer.enter(SEQUENCE)
    outer.end()
    return inside


def _digest(reader: Der) -> bytes:
    pair = reader.enter(SEQUENCE, "firmware id")
    pair.oid()
    value = pair.bytes_of(OCTET_STRING)
    pair.end()
    if len(value) != _HASH:
        raise pair.wrong(f"has {len(value)} bytes, not {_HASH}")
    return value
