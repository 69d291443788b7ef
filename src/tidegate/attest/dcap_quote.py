"""Intel DCAP quotes of SGX enclaves and TDX trust domains, taken apart. Pure.

Versions 3 (SGX), 4 (SGX, TDX) and 5 (SGX, TDX 1.0 and 1.5), after Intel's "ECDSA Quote Library API"
and "TDX DCAP Quoting Library API". All numbers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tidegate.attest.cursor import Cursor

KIND: Final = "dcap"
INTEL_QE: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""The vendor id of Intel's own quoting enclaves."""
ECDSA_P256: Final = 2
MOST_BYTES: Final = 1 << 16
"""Of a quote: genuine ones have 5 KiB, most of it certificates."""

Tee = Literal["sgx", "tdx"]
TEES: Final[dict[int, Tee]] = {0x00: "sgx", 0x81: "tdx"}
PPID_CLEAR: Final = 1
PCK_CHAIN: Final = 5
QE_REPORT: Final = 6
CERTIFICATION: Final = {
    PPID_CLEAR: "the platform's id in clear",
    2: "the platform's id, encrypted (RSA-2048)",
    3: "the platform's id, encrypted (RSA-3072)",
    4: "the PCK certificate alone",
    PCK_CHAIN: "the PCK certificate and its chain",
    QE_REPORT: "a quoting enclave's report",
    7: "a platform manifest",
}
"""Certification data types, and what they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveReport:
    """An SGX report body (384 bytes): `raw` as it was signed, and the fields that are judged."""

    raw: bytes
    cpu_svn: bytes
    misc_select: bytes
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    report_data: bytes

    @property
    def debug(self) -> bool:
        """Whether its owner may read and write the enclave's memory."""
        return bool(self.attributes[0] & 0x02)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """A trust domain's report body (584 bytes; 648 with TDX 1.5's two further fields).

    `tee_tcb_svn`: of the TDX module; byte 1 is its version, byte 0 its security version.
    """

    raw: bytes
    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes = b""
    mrservicetd: bytes = b""

    @property
    def debug(self) -> bool:
        """Whether the host may read and write the domain's memory: any bit of that byte."""
        return bool(self.td_attributes[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A quote. `signed`: header and body, which `signature` covers.

    `attestation_key`, `signature` and `qe_signature` are pairs of 32-byte numbers, as is usual with
    ECDSA over P-256. `certification`: the PCK certificate or what names it, by
    `certification_type`. `trailing`: what follows the quote in its buffer, which nobody signed.
    """

    version: int
    tee: Tee
    key_type: int
    qe_vendor: bytes
    user_data: bytes
    body: EnclaveReport | TdReport
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: EnclaveReport
    qe_signature: bytes
    qe_auth: bytes
    certification_type: int
    certification: bytes
    trailing: bytes


_ENCLAVE: Final = (
    ("cpu_svn", 16),
    ("misc_select", 4),
    ("reserved_1", 12),
    ("isv_ext_prod_id", 16),
    ("attributes", 16),
    ("mrenclave", 32),
    ("reserved_2", 32),
    ("mrsigner", 32),
    ("reserved_3", 32),
    ("config_id", 64),
    ("isv_prod_id", 2),
    ("isv_svn", 2),
    ("config_svn", 2),
    ("reserved_4", 42),
    ("isv_family_id", 16),
    ("report_data", 64),
)
_TD_10: Final = (
    ("tee_tcb_svn", 16),
    ("mrseam", 48),
    ("mrsignerseam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mrtd", 48),
    ("mrconfigid", 48),
    ("mrowner", 48),
    ("mrownerconfig", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
)
_TD_15: Final = (*_TD_10, ("tee_tcb_svn2", 16), ("mrservicetd", 48))
_ENCLAVE_SIZE: Final = 384
_TD_10_SIZE: Final = 584
_TD_15_SIZE: Final = 648
_BODIES: Final[dict[int, tuple[Tee, int]]] = {
    1: ("sgx", _ENCLAVE_SIZE),
    2: ("tdx", _TD_10_SIZE),
    3: ("tdx", _TD_15_SIZE),
}
"""Version 5 names its body: enclave, TDX 1.0, TDX 1.5."""


def parse(data: bytes) -> Quote:
    """A quote from its bytes. Raises `EvidenceError` for anything else."""
    cursor = Cursor(KIND, data)
    if len(data) > MOST_BYTES:
        raise cursor.error("quote", f"longer than {MOST_BYTES} bytes")
    version = cursor.number(2, "version")
    if version not in (3, 4, 5):
        raise cursor.error("version", f"{version}; 3, 4 and 5 are read")
    key_type = cursor.number(2, "key_type")
    if key_type != ECDSA_P256:
        raise cursor.error("key_type", f"{key_type}; only {ECDSA_P256}, ECDSA over P-256, is read")
    tee = TEES.get(cursor.number(4, "tee_type"))
    if tee is None or (version == 3 and tee != "sgx"):
        raise cursor.error("tee_type", f"names no environment that version {version} has")
    cursor.take(4, "svn")
    qe_vendor = cursor.take(16, "qe_vendor")
    user_data = cursor.take(20, "user_data")
    size = _TD_10_SIZE if tee == "tdx" else _ENCLAVE_SIZE
    if version == 5:
        named = _BODIES.get(cursor.number(2, "body_type"))
        told = cursor.number(4, "body_size")
        if named is None or named != (tee, told):
            raise cursor.error("body_type", "does not fit the environment or the body's size")
        size = told
    raw = cursor.take(size, "body")
    body = enclave_report(raw) if tee == "sgx" else td_report(raw)
    signed = data[: cursor.at]
    told = cursor.number(4, "signature_size")
    inside = cursor.within(told, "signature_data")
    trailing = cursor.rest()
    signature = inside.take(64, "signature")
    attestation_key = inside.take(64, "attestation_key")
    if version > 3:
        inside = _certification(inside, QE_REPORT)
    qe_report = enclave_report(inside.take(_ENCLAVE_SIZE, "qe_report"))
    qe_signature = inside.take(64, "qe_signature")
    qe_auth = inside.take(inside.number(2, "qe_auth_size"), "qe_auth")
    kind = inside.number(2, "certification_type")
    if kind not in CERTIFICATION or kind == QE_REPORT:
        raise inside.error("certification_type", f"{kind} names no certificate")
    certification = inside.take(inside.number(4, "certification_size"), "certification")
    inside.end("signature_data")
    return Quote(
        version=version,
        tee=tee,
        key_type=key_type,
        qe_vendor=qe_vendor,
        user_data=user_data,
        body=body,
        signed=signed,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=qe_report,
        qe_signature=qe_signature,
        qe_auth=qe_auth,
        certification_type=kind,
        certification=certification,
        trailing=trailing,
    )


def _certification(inside: Cursor, wanted: int) -> Cursor:
    """The one certification data of the type `wanted`, which must fill what is left."""
    kind = inside.number(2, "certification_type")
    if kind != wanted:
        raise inside.error("certification_type", f"{kind} where only {wanted} is known")
    nested = inside.within(inside.number(4, "certification_size"), "certification")
    inside.end("signature_data")
    return nested


def _fields(raw: bytes, layout: tuple[tuple[str, int], ...]) -> dict[str, bytes]:
    cursor = Cursor(KIND, raw)
    found = {name: cursor.take(size, name) for name, size in layout}
    cursor.end("body")
    return found


def enclave_report(raw: bytes) -> EnclaveReport:
    """An SGX report body from its 384 bytes. Raises `EvidenceError` for another number of them."""
    found = _fields(raw, _ENCLAVE)
    return EnclaveReport(
        raw=raw,
        cpu_svn=found["cpu_svn"],
        misc_select=found["misc_select"],
        attributes=found["attributes"],
        mrenclave=found["mrenclave"],
        mrsigner=found["mrsigner"],
        config_id=found["config_id"],
        isv_prod_id=int.from_bytes(found["isv_prod_id"], "little"),
        isv_svn=int.from_bytes(found["isv_svn"], "little"),
        config_svn=int.from_bytes(found["config_svn"], "little"),
        report_data=found["report_data"],
    )


def td_report(raw: bytes) -> TdReport:
    """A TD report body from its 584 (TDX 1.0) or 648 (TDX 1.5) bytes."""
    found = _fields(raw, _TD_15 if len(raw) == _TD_15_SIZE else _TD_10)
    return TdReport(raw=raw, **found)
