"""Intel SGX and TDX quotes, appraised. Pure.

The chain of trust: Intel's root certifies a platform's PCK key, which signs the report of the
quoting enclave, which names the attestation key, which signs the quote. Intel's root certifies
another key too, that signs what Intel says of platforms and quoting enclaves (the collateral).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import datetime

from tidegate.attest.appraisal import Appraisal, Claim, Setting, Sheet, freshness, soonest
from tidegate.attest.chain import Chain, check_chain, lists_end
from tidegate.attest.dcap_checks import (
    DcapPolicy,
    check_attributes,
    check_collateral,
    check_levels,
    raw_verifies,
    signed_raw,
)
from tidegate.attest.dcap_collateral import Collateral, utc
from tidegate.attest.dcap_levels import Level
from tidegate.attest.dcap_pck import Platform, parse_platform
from tidegate.attest.dcap_quote import CERTIFICATION, INTEL_QE, PCK_CHAIN, Quote, TdReport
from tidegate.attest.errors import EvidenceError
from tidegate.attest.outcome import Fail, Pass
from tidegate.attest.pem import strict_chain
from tidegate.attest.references import check_references


def appraise(
    quote: Quote, policy: DcapPolicy, setting: Setting, collateral: Collateral | None = None
) -> Appraisal:
    """Hold a quote, and what Intel says of its platform, against a policy.

    Without `collateral` the signatures are checked and the rest cannot be verified.
    """
    sheet = Sheet()
    if collateral is not None:
        setting = replace(setting, crls=(*setting.crls, *collateral.crls))
    body = quote.body
    sheet.need(
        "quoting enclave is Intel's",
        quote.qe_vendor == INTEL_QE,
        "vendor id of Intel",
        f"vendor id {quote.qe_vendor.hex()}, which is not Intel's",
    )
    sheet.need(
        "nothing follows the quote",
        policy.trailing or not any(quote.trailing),
        f"{len(quote.trailing)} bytes of padding",
        f"{len(quote.trailing)} bytes follow it that nobody signed",
    )
    chain = _check_pck(sheet, quote, setting, collateral)
    platform = _check_signatures(sheet, quote, chain)
    level = None
    if collateral is None:
        sheet.unknown("collateral is at hand", "no collateral was handed in")
    elif check_collateral(sheet, quote, collateral, policy, setting):
        level = check_levels(sheet, quote, platform, collateral, policy)
    check_attributes(sheet, body, policy)
    missed = check_references(sheet, policy.references, measurements(quote))
    sheet.add("binds the nonce", freshness(body.report_data, setting))
    return Appraisal(
        kind=quote.tee,
        checks=sheet.done(),
        claims=_claims(quote, platform, level),
        bound=body.report_data,
        device=f"intel-platform:{platform.ppid.hex()}" if platform else "",
        at=setting.now,
        until=_until(chain, collateral, setting),
        not_covered=_not_covered(quote, policy, setting, missed),
    )


def _check_pck(
    sheet: Sheet, quote: Quote, setting: Setting, collateral: Collateral | None
) -> Chain | None:
    if quote.certification_type != PCK_CHAIN:
        held = CERTIFICATION[quote.certification_type]
        sheet.unknown("PCK certificate chains to a trusted root", f"the quote holds only {held}")
        return None
    try:
        leaf, *others = strict_chain(quote.certification, "PCK certificate")
    except EvidenceError as error:
        sheet.add("PCK certificate chains to a trusted root", Fail(error.message))
        return None
    issuers = collateral.crl_issuers if collateral else ()
    return check_chain(sheet, "PCK certificate", leaf, (*others, *issuers), setting)


def _check_signatures(sheet: Sheet, quote: Quote, chain: Chain | None) -> Platform | None:
    """Note the three links from PCK key to quote; the platform, where its certificate tells."""
    platform = None
    if chain is None:
        sheet.unknown("PCK certificate is a platform's", "it is not at hand")
        sheet.unknown("PCK key signed the quoting enclave's report", "its certificate is missing")
    else:
        try:
            platform = parse_platform(chain.leaf)
            told = Pass(f"family {platform.fmspc.hex()}")
            sheet.add("PCK certificate is a platform's", told)
        except EvidenceError as error:
            sheet.add("PCK certificate is a platform's", Fail(error.message))
        sheet.need(
            "PCK key signed the quoting enclave's report",
            signed_raw(chain.leaf, quote.qe_signature, quote.qe_report.raw),
            "its signature holds",
            "its signature does not hold",
        )
    named = hashlib.sha256(quote.attestation_key + quote.qe_auth).digest().ljust(64, b"\0")
    sheet.need(
        "quoting enclave's report names the attestation key",
        hmac.compare_digest(quote.qe_report.report_data, named),
        "REPORT_DATA is the key's hash",
        "REPORT_DATA is not the hash of the key that came with the quote",
    )
    sheet.need(
        "attestation key signed the quote",
        raw_verifies(quote.attestation_key, quote.signature, quote.signed),
        "its signature holds",
        "its signature does not hold",
    )
    return platform


def measurements(quote: Quote) -> dict[str, bytes]:
    """What a policy may ask of a quote's body, by the name that a reference gives it."""
    body = quote.body
    if isinstance(body, TdReport):
        names = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner")
        return {name: getattr(body, name) for name in (*names, "mrownerconfig")}
    return {
        "mrenclave": body.mrenclave,
        "mrsigner": body.mrsigner,
        "config_id": body.config_id,
        "isv_prod_id": body.isv_prod_id.to_bytes(2, "big"),
    }


def _claims(quote: Quote, platform: Platform | None, level: Level | None) -> tuple[Claim, ...]:
    claims = [Claim(name, value.hex()) for name, value in measurements(quote).items()]
    body = quote.body
    if isinstance(body, TdReport):
        claims += [
            Claim("td_attributes", body.td_attributes.hex()),
            Claim("xfam", body.xfam.hex()),
            Claim("tee_tcb_svn", body.tee_tcb_svn.hex()),
            Claim("mrseam", body.mrseam.hex()),
        ]
    else:
        claims += [
            Claim("attributes", body.attributes.hex()),
            Claim("isv_svn", str(body.isv_svn)),
        ]
    if platform is not None:
        claims += [Claim("fmspc", platform.fmspc.hex()), Claim("pce_svn", str(platform.pce_svn))]
    if level is not None:
        claims += [
            Claim("tcb_status", level.status),
            Claim("tcb_date", level.date),
            Claim("advisories", " ".join(level.advisories)),
        ]
    return tuple(claims)


def _until(chain: Chain | None, collateral: Collateral | None, setting: Setting) -> datetime | None:
    ends = [chain.until, lists_end(chain, setting)] if chain is not None else []
    if collateral is not None:
        ends += [utc(collateral.tcb_info.next_update), utc(collateral.qe_identity.next_update)]
    return soonest(*ends)


def _not_covered(
    quote: Quote, policy: DcapPolicy, setting: Setting, missed: tuple[str, ...]
) -> tuple[str, ...]:
    """What a pass leaves open."""
    said = ["attacks on the CPU package with physical access, which Intel does not rule out"]
    if missed:
        said.append(f"measurements without a reference value: {', '.join(missed)}")
    if not setting.revocation:
        said.append("revocation: it was not asked after")
    if any(quote.trailing):
        said.append(f"{len(quote.trailing)} bytes after the quote, which nobody signed")
    if isinstance(quote.body, TdReport) and not policy.sept_ve_disable:
        said.append("the host's power to inject #VE into the domain (SEPT_VE_DISABLE)")
    return tuple(said)
