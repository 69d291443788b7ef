"""Made-up Intel platforms: quotes of enclaves and trust domains, and the collateral for them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from evidence_authorities import (
    FROM,
    UNTIL,
    Authority,
    authority_extensions,
    certificate,
    drawn,
    ec_key,
    extension,
    integer,
    oid,
    tlv,
)

VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SGX = "1.2.840.113741.1.13.1"
NONCE = drawn("dcap nonce", 64)
MEASURED = drawn("mrtd", 48)
ENCLAVE = drawn("mrenclave", 32)
QE_SIGNER = drawn("quoting enclave's signer", 32)
FAMILY = bytes.fromhex("00806f050000")
SIGNER_NAME = "Intel SGX TCB Signing"

_ENCLAVE = (
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
_DOMAIN = (
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
_DOMAIN_15 = (*_DOMAIN, ("tee_tcb_svn2", 16), ("mrservicetd", 48))
_TD = {
    "tee_tcb_svn": bytes([3, 1, 4]),
    "td_attributes": (1 << 28).to_bytes(8, "little"),
    "mrtd": MEASURED,
    "report_data": NONCE,
}
_SGX_BODY = {"attributes": b"\x05", "mrenclave": ENCLAVE, "report_data": NONCE}
_QE_BODY = {
    "attributes": b"\x11",
    "mrsigner": QE_SIGNER,
    "isv_prod_id": b"\x02",
    "isv_svn": b"\x04",
}


def p256(label: str) -> ec.EllipticCurvePrivateKey:
    return ec_key(label, ec.SECP256R1())


def _root() -> Authority:
    common, key = "Made-up SGX Root CA", p256("sgx root")
    der = certificate(common, key, common, key, authority_extensions(), serial=1)
    return Authority(common, key, der)


def _below(issuer: Authority, common: str, label: str) -> Authority:
    key = p256(label)
    return Authority(common, key, issuer.certify(common, key, authority_extensions(), serial=2))


ROOT = _root()
PCK_CA = _below(ROOT, "Made-up PCK Platform CA", "pck ca")


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """r and s of ECDSA with SHA-256, 32 bytes each."""
    der = key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return b"".join(part.to_bytes(32, "big") for part in decode_dss_signature(der))


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def laid_out(layout: tuple[tuple[str, int], ...], values: dict[str, bytes]) -> bytes:
    """A structure; what has no value is zero."""
    return b"".join(values.get(name, b"").ljust(size, b"\0") for name, size in layout)


def pem(*ders: bytes) -> bytes:
    """Certificates as Intel spells them."""
    blocks = []
    for der in ders:
        body = base64.b64encode(der)
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        wrapped = (b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----")
        blocks.append(b"\n".join(wrapped) + b"\n")
    return b"".join(blocks)


def platform_extension(
    family: bytes = FAMILY, svns: tuple[int, ...] = (2,) * 16, pce_svn: int = 11
) -> bytes:
    """What a PCK certificate says of its platform."""

    def pair(dots: str, value: bytes) -> bytes:
        return tlv(0x30, oid(dots), value)

    levels = [pair(f"{SGX}.2.{place}", integer(svn)) for place, svn in enumerate(svns, 1)]
    own = (pair(f"{SGX}.2.17", integer(pce_svn)), pair(f"{SGX}.2.18", tlv(0x04, bytes(svns))))
    tcb = tlv(0x30, *levels, *own)
    return extension(
        SGX,
        tlv(
            0x30,
            pair(f"{SGX}.1", tlv(0x04, drawn("ppid", 16))),
            pair(f"{SGX}.2", tcb),
            pair(f"{SGX}.3", tlv(0x04, bytes(2))),
            pair(f"{SGX}.4", tlv(0x04, family)),
            pair(f"{SGX}.5", tlv(0x0A, b"\1")),
        ),
    )


def pck(issuer: Authority = PCK_CA, extensions: bytes | None = None, **more: Any) -> bytes:
    """The platform's certificate."""
    said = platform_extension() if extensions is None else extensions
    more.setdefault("serial", 7)
    return issuer.certify("Made-up PCK Certificate", p256("pck"), said, **more)


def chain(leaf: bytes | None = None) -> bytes:
    return pem(leaf or pck(), PCK_CA.certificate, ROOT.certificate)


def quote(
    version: int = 4,
    tee: str = "tdx",
    *,
    body: dict[str, bytes] | None = None,
    qe: dict[str, bytes] | None = None,
    vendor: bytes = VENDOR,
    certification: bytes | None = None,
    kind: int = 5,
    signer: str = "attestation key",
    qe_signer: str = "pck",
    trailing: bytes = b"",
) -> bytes:
    """A quote. `signer`, `qe_signer`: labels of the keys that really sign."""
    key = p256("attestation key")
    header = b"".join(
        (
            version.to_bytes(2, "little"),
            (2).to_bytes(2, "little"),
            (0x81 if tee == "tdx" else 0).to_bytes(4, "little"),
            bytes(4),
            vendor,
            drawn("user data", 20),
        )
    )
    if tee == "tdx":
        layout = _DOMAIN_15 if version == 5 else _DOMAIN
        report = laid_out(layout, _TD | (body or {}))
    else:
        report = laid_out(_ENCLAVE, _SGX_BODY | (body or {}))
    if version == 5:
        number = 3 if tee == "tdx" else 1
        header += number.to_bytes(2, "little") + len(report).to_bytes(4, "little")
    auth = bytes(range(32))
    named = hashlib.sha256(point(key) + auth).digest()
    enclave = laid_out(_ENCLAVE, _QE_BODY | {"report_data": named} | (qe or {}))
    held = chain() if certification is None else certification
    inner = b"".join(
        (
            enclave,
            raw_signature(p256(qe_signer), enclave),
            len(auth).to_bytes(2, "little") + auth,
            kind.to_bytes(2, "little") + len(held).to_bytes(4, "little") + held,
        )
    )
    if version > 3:
        inner = (6).to_bytes(2, "little") + len(inner).to_bytes(4, "little") + inner
    data = raw_signature(p256(signer), header + report) + point(key) + inner
    return header + report + len(data).to_bytes(4, "little") + data + trailing


def crl(issuer: Authority, *serials: int, **more: Any) -> bytes:
    """A revocation list with the two extensions that other readers insist on."""
    key_id = tlv(0x30, tlv(0x80, issuer.pin[:20]))
    said = extension("2.5.29.20", integer(1)) + extension("2.5.29.35", key_id)
    return issuer.revoke(*serials, extensions=said, **more)


def signing_chain(common: str = SIGNER_NAME, issuer: Authority = ROOT, **more: Any) -> bytes:
    """The certificate of the key that signs collateral, and the root's."""
    more.setdefault("serial", 3)
    leaf = issuer.certify(common, p256("tcb signer"), extension("2.5.29.14", b"\4\0"), **more)
    between = () if issuer is ROOT else (issuer.certificate,)
    return pem(leaf, *between, ROOT.certificate)


def stamp(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


def level(status: str, svns: list[int], tdx: list[int] | None, pce_svn: int = 11) -> dict[str, Any]:
    """One TCB level."""
    tcb: dict[str, Any] = {"sgxtcbcomponents": [{"svn": svn} for svn in svns], "pcesvn": pce_svn}
    if tdx is not None:
        tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in tdx]
    return {"tcb": tcb, "tcbDate": stamp(FROM), "tcbStatus": status}


def isv(status: str, svn: int) -> dict[str, Any]:
    return {"tcb": {"isvsvn": svn}, "tcbDate": stamp(FROM), "tcbStatus": status}


@dataclass
class Collateral:
    """Collateral that can be bent before it is signed."""

    info: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    chain: bytes = field(default_factory=signing_chain)
    root_crl: bytes = field(default_factory=lambda: crl(ROOT, 99))
    pck_crl: bytes = field(default_factory=lambda: crl(PCK_CA, 99))
    info_signer: str = "tcb signer"
    identity_signer: str = "tcb signer"
    tee: str = "tdx"

    def written(self) -> bytes:
        """The JSON object."""
        info = json.dumps(self._info() | self.info, separators=(",", ":"))
        identity = json.dumps(self._identity() | self.identity, separators=(",", ":"))
        found = {
            "pck_crl_issuer_chain": pem(PCK_CA.certificate, ROOT.certificate).decode(),
            "root_ca_crl": self.root_crl.hex(),
            "pck_crl": self.pck_crl.hex(),
            "tcb_info_issuer_chain": self.chain.decode(),
            "tcb_info": info,
            "tcb_info_signature": raw_signature(p256(self.info_signer), info.encode()).hex(),
            "qe_identity_issuer_chain": self.chain.decode(),
            "qe_identity": identity,
            "qe_identity_signature": raw_signature(
                p256(self.identity_signer), identity.encode()
            ).hex(),
        }
        return json.dumps(found, separators=(",", ":")).encode()

    def _info(self) -> dict[str, Any]:
        tdx = [0, 0, 4, *[0] * 13] if self.tee == "tdx" else None
        old = [0] * 16 if self.tee == "tdx" else None
        found: dict[str, Any] = {
            "id": self.tee.upper(),
            "version": 3,
            "issueDate": stamp(FROM),
            "nextUpdate": stamp(UNTIL),
            "fmspc": FAMILY.hex().upper(),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": 17,
            "tcbLevels": [
                level("UpToDate", [2] * 16, tdx),
                level("OutOfDate", [1] * 16, old, 5) | {"advisoryIDs": ["INTEL-SA-00000"]},
            ],
        }
        if self.tee == "tdx":
            module = {
                "mrsigner": "00" * 48,
                "attributes": "00" * 8,
                "attributesMask": "FF" * 8,
            }
            levels = [isv("UpToDate", 3), isv("OutOfDate", 2)]
            found["tdxModule"] = module
            found["tdxModuleIdentities"] = [{"id": "TDX_01", **module, "tcbLevels": levels}]
        return found

    def _identity(self) -> dict[str, Any]:
        return {
            "id": "TD_QE" if self.tee == "tdx" else "QE",
            "version": 2,
            "issueDate": stamp(FROM),
            "nextUpdate": stamp(UNTIL),
            "tcbEvaluationDataNumber": 17,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15,
            "attributesMask": "FB" + "FF" * 7 + "00" * 8,
            "mrsigner": QE_SIGNER.hex().upper(),
            "isvprodid": 2,
            "tcbLevels": [isv("UpToDate", 4), isv("OutOfDate", 1)],
        }


def authority_of(common: str) -> Authority:
    """A root of somebody else's with that name."""
    key = ec_key("somebody else's root")
    made = Authority(common, key, b"")
    return Authority(common, key, made.certify(common, key, authority_extensions(), serial=1))
