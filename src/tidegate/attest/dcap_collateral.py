"""Intel's collateral for quotes: TCB info, quoting enclave identity, revocation lists. Pure.

One JSON object holds what Intel's provisioning service gave for one platform, with the texts that
Intel signed as strings, since a signature is over their very bytes. After the "Intel SGX and Intel
TDX services" API, version 4.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from tidegate.attest.certificates import Certificate, parse_certificates
from tidegate.attest.errors import EvidenceError

KIND: Final = "dcap collateral"
MOST_BYTES: Final = 1 << 22
"""Of a collateral: genuine ones have 20 KiB; a long revocation list has some hundred."""

Status = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]
"""TCB status, as Intel words it, from best to worst."""

_Kind = TypeVar("_Kind")
_Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-fA-F]{2})*$")]
_Svn = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Wide = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_Components = Annotated[tuple["Component", ...], msgspec.Meta(min_length=16, max_length=16)]


class Component(msgspec.Struct, frozen=True):
    """One security version; what it stands for is Intel's to say."""

    svn: _Svn


class _Tcb(msgspec.Struct, frozen=True):
    sgxtcbcomponents: _Components
    pcesvn: _Wide
    tdxtcbcomponents: _Components | None = None


class TcbLevel(msgspec.Struct, frozen=True):
    """The security versions that a platform needs to have that status, at least."""

    tcb: _Tcb
    status: Status = msgspec.field(name="tcbStatus")
    date: str = msgspec.field(name="tcbDate")
    advisories: tuple[str, ...] = msgspec.field(name="advisoryIDs", default=())


class _Isv(msgspec.Struct, frozen=True):
    isvsvn: _Wide


class IsvLevel(msgspec.Struct, frozen=True):
    """The security version that an enclave or module needs to have that status, at least."""

    tcb: _Isv
    status: Status = msgspec.field(name="tcbStatus")
    date: str = msgspec.field(name="tcbDate")
    advisories: tuple[str, ...] = msgspec.field(name="advisoryIDs", default=())


class ModuleIdentity(msgspec.Struct, frozen=True):
    """Who signed a TDX module, and its attributes under a mask (hex); `id` such as TDX_03."""

    mrsigner: _Hex
    attributes: _Hex
    mask: _Hex = msgspec.field(name="attributesMask")
    id: str = ""
    levels: tuple[IsvLevel, ...] = msgspec.field(name="tcbLevels", default=())


class TcbInfo(msgspec.Struct, frozen=True):
    """What Intel says of every platform of one family (FMSPC), as of `issued`."""

    id: Literal["SGX", "TDX"]
    version: Literal[3]
    issued: datetime = msgspec.field(name="issueDate")
    next_update: datetime = msgspec.field(name="nextUpdate")
    fmspc: _Hex
    pce_id: _Hex = msgspec.field(name="pceId")
    kind: Literal[0] = msgspec.field(name="tcbType")
    evaluation: int = msgspec.field(name="tcbEvaluationDataNumber")
    levels: tuple[TcbLevel, ...] = msgspec.field(name="tcbLevels")
    module: ModuleIdentity | None = msgspec.field(name="tdxModule", default=None)
    modules: tuple[ModuleIdentity, ...] = msgspec.field(name="tdxModuleIdentities", default=())


class QeIdentity(msgspec.Struct, frozen=True):
    """What a genuine quoting enclave looks like, as of `issued`; bytes in hex."""

    id: Literal["QE", "TD_QE"]
    version: Literal[2]
    issued: datetime = msgspec.field(name="issueDate")
    next_update: datetime = msgspec.field(name="nextUpdate")
    evaluation: int = msgspec.field(name="tcbEvaluationDataNumber")
    misc_select: _Hex = msgspec.field(name="miscselect")
    misc_mask: _Hex = msgspec.field(name="miscselectMask")
    attributes: _Hex
    attributes_mask: _Hex = msgspec.field(name="attributesMask")
    mrsigner: _Hex
    isv_prod_id: _Wide = msgspec.field(name="isvprodid")
    levels: tuple[IsvLevel, ...] = msgspec.field(name="tcbLevels")


class _Raw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The object as it is stored. `pck_certificate_chain` is for quotes that hold none."""

    pck_crl_issuer_chain: str
    root_ca_crl: _Hex
    pck_crl: _Hex
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: _Hex
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: _Hex
    pck_certificate_chain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """Collateral taken apart. The `_text` fields are what the signatures beside them cover.

    `crls`: the lists of Intel's root and of the authority that issued the PCK certificate, in DER.
    """

    crls: tuple[bytes, bytes]
    crl_issuers: tuple[Certificate, ...]
    tcb_info: TcbInfo
    tcb_info_text: bytes
    tcb_info_signature: bytes
    tcb_info_issuers: tuple[Certificate, ...]
    qe_identity: QeIdentity
    qe_identity_text: bytes
    qe_identity_signature: bytes
    qe_identity_issuers: tuple[Certificate, ...]


def parse_collateral(data: bytes) -> Collateral:
    """Collateral from its JSON. Raises `EvidenceError` for anything else."""
    if len(data) > MOST_BYTES:
        raise EvidenceError(KIND, "collateral", f"is longer than {MOST_BYTES} bytes")
    raw = _decoded(data, _Raw, "collateral")
    info = _decoded(raw.tcb_info.encode(), TcbInfo, "tcb_info")
    identity = _decoded(raw.qe_identity.encode(), QeIdentity, "qe_identity")
    for field, times in (("tcb_info", info), ("qe_identity", identity)):
        if times.issued.tzinfo is None or times.next_update.tzinfo is None:
            raise EvidenceError(KIND, field, "has times without a zone")
    return Collateral(
        crls=(_bytes(raw.root_ca_crl), _bytes(raw.pck_crl)),
        crl_issuers=parse_certificates(raw.pck_crl_issuer_chain.encode()),
        tcb_info=info,
        tcb_info_text=raw.tcb_info.encode(),
        tcb_info_signature=_bytes(raw.tcb_info_signature),
        tcb_info_issuers=parse_certificates(raw.tcb_info_issuer_chain.encode()),
        qe_identity=identity,
        qe_identity_text=raw.qe_identity.encode(),
        qe_identity_signature=_bytes(raw.qe_identity_signature),
        qe_identity_issuers=parse_certificates(raw.qe_identity_issuer_chain.encode()),
    )


def _decoded(data: bytes, kind: type[_Kind], field: str) -> _Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EvidenceError(KIND, field, str(error)[:200]) from error


def _bytes(text: str) -> bytes:
    return binascii.unhexlify(text)


def utc(moment: datetime) -> datetime:
    """The same moment in UTC."""
    return moment.astimezone(UTC)
