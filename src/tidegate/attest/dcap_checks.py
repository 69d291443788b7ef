"""What is asked of a DCAP quote beside its signatures: collateral, TCB levels, attributes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from tidegate.attest.appraisal import Setting, Sheet, in_date
from tidegate.attest.certificates import Certificate
from tidegate.attest.chain import Chain, check_chain
from tidegate.attest.dcap_collateral import Collateral, Status, utc
from tidegate.attest.dcap_levels import Level, converged, isv_level, module_of, platform_level
from tidegate.attest.dcap_pck import Platform
from tidegate.attest.dcap_quote import EnclaveReport, Quote, TdReport
from tidegate.attest.outcome import CannotVerify, Fail, Outcome, Pass
from tidegate.attest.references import Reference
from tidegate.attest.signatures import PublicKey, ecdsa_verifies, load_key, taken

TCB_SIGNER: Final = "Intel SGX TCB Signing"

_SEPT_VE_DISABLE: Final = 1 << 28
_KNOWN: Final = _SEPT_VE_DISABLE | 1 << 30 | 1 << 31 | 1 << 63
"""Attributes of a trust domain beside debugging that may be set: SEPT_VE_DISABLE, PKS, KL, PERFMON.
MIGRATABLE may not: its memory could be moved under another host's control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DcapPolicy:
    """What a quote has to say.

    `references`: for TDX `mrtd`, `rtmr0` to `rtmr3`, `mrconfigid`, `mrowner`, `mrownerconfig`; for
    SGX `mrenclave`, `mrsigner`, `config_id`, `isv_prod_id`. `statuses`: the TCB statuses that are
    taken. `least_evaluation`: the lowest TCB evaluation data number of collateral that is taken,
    against collateral that is old and still in date. `sept_ve_disable`: whether a trust domain's
    host must have no power to inject #VE. `service_domains`: MRSERVICETD values that are taken,
    beside none. `trailing`: whether bytes other than zero, which nobody signed, may follow.
    """

    references: tuple[Reference, ...] = ()
    statuses: frozenset[Status] = frozenset({"UpToDate"})
    least_evaluation: int = 0
    sept_ve_disable: bool = True
    service_domains: frozenset[bytes] = frozenset()
    trailing: bool = False


def raw_verifies(point: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a key given as the 64 bytes of a point on P-256 made that signature of 64 bytes."""
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    except ValueError:
        return False
    return _verifies(taken(key), signature, data)


def signed_raw(signer: Certificate, signature: bytes, data: bytes) -> bool:
    """Whether the certificate's key, on P-256, made that signature of 64 bytes."""
    return _verifies(load_key(signer.spki), signature, data)


def _verifies(key: PublicKey | None, signature: bytes, data: bytes) -> bool:
    if len(signature) != 64:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    return ecdsa_verifies(key, "sha256", r, s, data)


def check_collateral(
    sheet: Sheet, quote: Quote, collateral: Collateral, policy: DcapPolicy, setting: Setting
) -> bool:
    """Note whether Intel signed the collateral, and whether it is of today and of this kind."""
    info, identity = collateral.tcb_info, collateral.qe_identity
    sheet.add("collateral is at hand", Pass(f"for platforms of family {info.fmspc.lower()}"))
    parts = (
        (
            "TCB info",
            collateral.tcb_info_issuers,
            collateral.tcb_info_signature,
            collateral.tcb_info_text,
            in_date(utc(info.issued), utc(info.next_update), setting.now, "TCB info"),
        ),
        (
            "QE identity",
            collateral.qe_identity_issuers,
            collateral.qe_identity_signature,
            collateral.qe_identity_text,
            in_date(utc(identity.issued), utc(identity.next_update), setting.now, "QE identity"),
        ),
    )
    good = True
    for what, issuers, signature, text, dated in parts:
        chain = check_chain(sheet, f"{what} signer", issuers[0], issuers[1:], setting)
        sheet.add(f"{what} is in date", dated)
        good &= chain is not None and sheet.add(
            f"Intel signed the {what}", _by_tcb_signer(chain, signature, text)
        )
    wanted = ("TDX", "TD_QE") if quote.tee == "tdx" else ("SGX", "QE")
    sheet.need(
        "collateral is of this environment",
        (info.id, identity.id) == wanted,
        f"{wanted[0]}, {wanted[1]}",
        f"it is of {info.id} and {identity.id}, the quote is of {quote.tee}",
    )
    least = min(info.evaluation, identity.evaluation)
    sheet.need(
        "collateral is not older than the policy's",
        least >= policy.least_evaluation,
        f"evaluation data number {least}",
        f"evaluation data number {least}, below {policy.least_evaluation}",
    )
    return good


def _by_tcb_signer(chain: Chain, signature: bytes, text: bytes) -> Outcome:
    """Whether the one key for it signed a text; the root certifies other keys for other ends."""
    if len(chain.certificates) != 2 or chain.leaf.name != TCB_SIGNER:
        return Fail(f"{chain.leaf.name} is not whom the root lets sign collateral")
    if not signed_raw(chain.leaf, signature, text):
        return Fail("its signature does not hold")
    return Pass("its signature holds")


def check_levels(
    sheet: Sheet,
    quote: Quote,
    platform: Platform | None,
    collateral: Collateral,
    policy: DcapPolicy,
) -> Level | None:
    """Note what Intel says of enclave, module and platform; the level they reach together."""
    info = collateral.tcb_info
    domain = quote.body if isinstance(quote.body, TdReport) else None
    parts = [isv_level(collateral.qe_identity.levels, quote.qe_report.isv_svn)]
    sheet.add("quoting enclave is as Intel describes it", _genuine_qe(quote.qe_report, collateral))
    if domain is not None:
        sheet.add("TDX module is as Intel describes it", _genuine_module(collateral, domain))
        module = module_of(info, domain)
        if module is not None and domain.tee_tcb_svn[1]:
            parts.append(isv_level(module.levels, domain.tee_tcb_svn[0]))
    if platform is None:
        sheet.add("TCB level is taken", CannotVerify("the platform is unknown"))
        return None
    family = (platform.fmspc.hex(), platform.pce_id.hex())
    if family != (info.fmspc.lower(), info.pce_id.lower()):
        sheet.add(
            "TCB level is taken",
            Fail(f"the TCB info is of family {info.fmspc}, the platform of {family[0]}"),
        )
        return None
    own = platform_level(info, platform, domain)
    known = [part for part in parts if part is not None]
    if own is None or len(known) < len(parts):
        sheet.add("TCB level is taken", Fail("it reaches no TCB level that Intel lists"))
        return None
    level = converged(own, *known)
    told = f"{level.status} as of {level.date}; {', '.join(level.advisories) or 'no advisory'}"
    sheet.need(
        "TCB level is taken", level.status in policy.statuses, told, f"the policy takes no {told}"
    )
    return level


def _genuine_qe(report: EnclaveReport, collateral: Collateral) -> Outcome:
    """Whether the report is of an enclave such as Intel signed the identity of."""
    wanted = collateral.qe_identity
    if report.debug:
        return Fail("it is open to debugging")
    if report.mrsigner != bytes.fromhex(wanted.mrsigner):
        return Fail(f"its signer is {report.mrsigner.hex()}")
    if report.isv_prod_id != wanted.isv_prod_id:
        return Fail(f"its product id is {report.isv_prod_id}, not {wanted.isv_prod_id}")
    if not _under_mask(report.attributes, wanted.attributes, wanted.attributes_mask):
        return Fail(f"its attributes are {report.attributes.hex()}")
    if not _under_mask(report.misc_select, wanted.misc_select, wanted.misc_mask):
        return Fail(f"its MISCSELECT is {report.misc_select.hex()}")
    return Pass(f"Intel's, product {report.isv_prod_id}, security version {report.isv_svn}")


def _genuine_module(collateral: Collateral, domain: TdReport) -> Outcome:
    wanted = module_of(collateral.tcb_info, domain)
    if wanted is None:
        return Fail(f"Intel names no TDX module of version {domain.tee_tcb_svn[1]}")
    if domain.mrsignerseam != bytes.fromhex(wanted.mrsigner):
        return Fail(f"its signer is {domain.mrsignerseam.hex()}")
    if not _under_mask(domain.seam_attributes, wanted.attributes, wanted.mask):
        return Fail(f"its attributes are {domain.seam_attributes.hex()}")
    return Pass(f"version {domain.tee_tcb_svn[1]}, security version {domain.tee_tcb_svn[0]}")


def _under_mask(found: bytes, wanted: str, mask: str) -> bool:
    """Whether the bits of `found` under the mask are those of `wanted`; sizes must agree."""
    want, under = bytes.fromhex(wanted), bytes.fromhex(mask)
    if not len(found) == len(want) == len(under):
        return False
    return all(a & m == b & m for a, b, m in zip(found, want, under, strict=True))


def check_attributes(sheet: Sheet, body: EnclaveReport | TdReport, policy: DcapPolicy) -> None:
    """Note whether the enclave or domain is closed to its host and to debuggers."""
    sheet.add("closed to debuggers and to its host", _closed(body, policy))


def _closed(body: EnclaveReport | TdReport, policy: DcapPolicy) -> Outcome:
    if body.debug:
        return Fail("it is open to debugging")
    if isinstance(body, EnclaveReport):
        return Pass(f"attributes {body.attributes.hex()}")
    bits = int.from_bytes(body.td_attributes, "little")
    if bits & ~_KNOWN:
        return Fail(f"attributes {body.td_attributes.hex()} have bits that are not taken")
    if policy.sept_ve_disable and not bits & _SEPT_VE_DISABLE:
        return Fail("its host may inject #VE: SEPT_VE_DISABLE is off")
    if any(body.mrservicetd) and body.mrservicetd not in policy.service_domains:
        return Fail(f"a service domain is bound to it: {body.mrservicetd.hex()}")
    return Pass(f"attributes {body.td_attributes.hex()}")
