"""NVIDIA's evidence and whole hosts' as files, appraised with the files beside them. Pure."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tidegate.attest.appraisal import Appraisal, Setting, Sheet, soonest
from tidegate.attest.errors import EvidenceError
from tidegate.attest.host import HostPolicy, appraise_host
from tidegate.attest.json_file import decoded
from tidegate.attest.nvidia import NvidiaPolicy, appraise
from tidegate.attest.nvidia_evidence import Evidence, parse, parse_saved
from tidegate.attest.nvidia_report import GET_MEASUREMENTS, VERSION
from tidegate.attest.nvidia_rim import Rim, parse_rim

HOST_FORMAT: Final = "tidegate/host-evidence/v1"
KIND: Final = "nvidia"
_REQUEST: Final = bytes([VERSION, GET_MEASUREMENTS])


class _Host(msgspec.Struct, forbid_unknown_fields=True):
    """A host's evidence: of its CPU in base64, of its devices as NVIDIA's tools save them.

    `others`: what makers published for it, in base64; signed by them, so that a host may bring it.
    """

    format: str
    cpu: str | None
    devices: msgspec.Raw
    others: list[str] = []


def is_nvidia(data: bytes) -> bool:
    """A report, in bytes or in hex, or what NVIDIA's tools save."""
    text = data.lstrip()[:1] == b"[" and b'"evidence"' in data and b'"arch"' in data
    return data[:2] == _REQUEST or data[:4] == _REQUEST.hex().encode() or text


def is_eat(data: bytes) -> bool:
    return data.lstrip()[:1] == b"[" and b'"JWT"' in data[:64]


def is_host(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{" and HOST_FORMAT.encode() in data


def rims_of(others: Sequence[bytes]) -> tuple[Rim, ...]:
    """Every document of reference values among files. Raises `EvidenceError`."""
    return tuple(parse_rim(other) for other in others if other.lstrip()[:1] == b"<")


def devices_of(data: bytes, certificates: Sequence[bytes]) -> tuple[Evidence, ...]:
    """The devices of a file. A report alone needs its certificates beside it, in one file."""
    if data.lstrip()[:1] == b"[":
        return parse_saved(data)
    if data[:2] != _REQUEST:
        try:
            data = binascii.unhexlify(data.strip())
        except ValueError as error:
            raise EvidenceError(KIND, "report", "is neither bytes nor hex") from error
    if len(certificates) != 1:
        raise EvidenceError(
            KIND, "certificates", f"are in {len(certificates)} files; a report needs them in one"
        )
    return (parse(data, certificates[0]),)


def appraise_devices(
    data: bytes,
    certificates: Sequence[bytes],
    others: Sequence[bytes],
    policy: NvidiaPolicy,
    setting: Setting,
) -> Appraisal:
    """The devices of one file, each for itself: nothing ties them to one host."""
    rims = rims_of(others)
    parts = [appraise(one, policy, setting, rims) for one in devices_of(data, certificates)]
    if len(parts) == 1:
        return parts[0]
    sheet = Sheet()
    for number, part in enumerate(parts):
        name = part.claim("pdi") or part.device
        sheet.add(f"device {number}, {part.kind} {name}", part.outcome)
    said = [line for part in parts for line in part.not_covered]
    return Appraisal(
        kind=KIND,
        checks=sheet.done(),
        claims=(),
        bound=parts[0].bound if len({part.bound for part in parts}) == 1 else b"",
        device="",
        at=setting.now,
        until=soonest(*(part.until for part in parts)),
        not_covered=tuple(dict.fromkeys(said)),
        parts=tuple(parts),
    )


def appraise_host_file(
    data: bytes,
    others: Sequence[bytes],
    policy: HostPolicy,
    setting: Setting,
    cpu_of: Callable[[bytes, tuple[bytes, ...]], Callable[[Setting], Appraisal]],
) -> Appraisal:
    """A host's file. `cpu_of`: from the CPU's evidence and what came along, its appraiser."""
    found = decoded(data, _Host, "host")
    if found.format != HOST_FORMAT:
        raise EvidenceError("host", "format", f"is not {HOST_FORMAT}")
    along = (*others, *(_base64(text, "others") for text in found.others))
    cpu = None if found.cpu is None else cpu_of(_base64(found.cpu, "cpu"), along)
    devices = parse_saved(bytes(found.devices))
    return appraise_host(cpu, devices, policy, setting, rims_of(along))


def _base64(text: str, field: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise EvidenceError("host", field, "is no base64") from error
