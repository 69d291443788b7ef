"""Azure confidential VMs on SEV-SNP: the paravisor's report, and a quote of its virtual TPM.

AMD's chip signs a report whose REPORT_DATA is the hash of the paravisor's runtime claims; these
name the attestation key of the virtual TPM; that key signs a quote, which binds the nonce. The
report is of the machine's start, the quote of now.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from tidegate.attest.appraisal import Appraisal, Claim, Setting, Sheet
from tidegate.attest.cursor import Cursor
from tidegate.attest.errors import EvidenceError
from tidegate.attest.json_file import decoded
from tidegate.attest.signatures import PublicKey
from tidegate.attest.snp import SnpEvidence, SnpPolicy, appraise_snp, parse_snp
from tidegate.attest.snp_report import SIZE
from tidegate.attest.tpm_evidence import listed
from tidegate.attest.tpm_quote import QuotePolicy, Registers, check_quote, quote_claims
from tidegate.attest.tpm_structures import Quote, Signature, parse_quote, rsa_key

KIND: Final = "azure-snp-vtpm"
ATTESTATION_KEY: Final = "HCLAkPub"
_HEADER: Final = 32
_RUNTIME: Final = 20
_SNP: Final = 2
_SHA256: Final = 1
MOST_RUNTIME: Final = 1 << 16

NOT_COVERED: Final = (
    "That the virtual TPM's key signs only quotes rests on the paravisor: pin its measurement.",
    "The report is as old as the machine's start; only the virtual TPM's quote is fresh.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzurePolicy:
    """Reference values: those of the paravisor's report, and of the virtual TPM's registers.

    `machines`: the unique ids of the VMs that are taken, None for any. `secure_boot`: whether the
    paravisor must say that it was on (the registers show it too, and show more).
    """

    snp: SnpPolicy
    quote: QuotePolicy
    machines: frozenset[str] | None = None
    secure_boot: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureEvidence:
    """One VM's evidence. `runtime`: the paravisor's claims as they were hashed."""

    snp: SnpEvidence
    runtime: bytes
    ak_key: PublicKey | None
    machine: str
    secure_boot: bool
    quote: Quote
    signature: Signature
    registers: Registers


class _Key(msgspec.Struct):
    kid: str
    kty: str = ""
    n: str = ""
    e: str = ""


class _Configuration(msgspec.Struct, rename="kebab"):
    secure_boot: bool = False
    machine: str = msgspec.field(default="", name="vmUniqueId")


class _Runtime(msgspec.Struct, rename="kebab"):
    keys: list[_Key]
    vm_configuration: _Configuration


class _Quote(msgspec.Struct, forbid_unknown_fields=True):
    signature: str
    message: str
    pcrs: list[str]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    tpm_quote: _Quote
    hcl_report: str
    vcek: str


def parse_azure(data: bytes, certificates: Sequence[bytes]) -> AzureEvidence:
    """Evidence as Trustee's attester for Azure writes it (version 2), and certificates as files.

    Raises `EvidenceError` for anything else.
    """
    found = decoded(data, _File, KIND)
    if found.version != 2:
        raise EvidenceError(KIND, "version", f"{found.version} is not 2")
    quote = found.tpm_quote
    return parse_parts(
        hcl_report=_base64("hcl_report", found.hcl_report),
        message=_hex("tpm_quote.message", quote.message),
        signature=_hex("tpm_quote.signature", quote.signature),
        registers=listed("sha256", quote.pcrs),
        certificates=(_base64("vcek", found.vcek), *certificates),
    )


def parse_parts(
    *,
    hcl_report: bytes,
    message: bytes,
    signature: bytes,
    registers: dict[int, bytes],
    certificates: Sequence[bytes],
) -> AzureEvidence:
    """The same from its parts: the paravisor's report (2600 bytes as it is read from the virtual
    TPM's index 0x01400001), a TPMS_ATTEST, an RSA signature, and the registers of bank sha256.
    """
    cursor = Cursor(KIND, hcl_report)
    cursor.exactly(b"HCLA", "header.signature")
    cursor.exactly((1).to_bytes(4, "little"), "header.version")
    size = cursor.number(4, "header.reportSize")
    cursor.exactly((2).to_bytes(4, "little"), "header.requestType")
    cursor.exactly(bytes(_HEADER - cursor.at), "header.status")
    report = cursor.take(SIZE, "report")
    total = cursor.number(4, "runtime.dataSize")
    cursor.exactly((1).to_bytes(4, "little"), "runtime.version")
    cursor.exactly(_SNP.to_bytes(4, "little"), "runtime.reportType")
    cursor.exactly(_SHA256.to_bytes(4, "little"), "runtime.hashType")
    length = cursor.number(4, "runtime.claimsSize")
    if length > MOST_RUNTIME or total != length + _RUNTIME or size != _HEADER + SIZE + total:
        raise cursor.error("runtime.claimsSize", f"{length} does not fit the other sizes")
    runtime = cursor.take(length, "runtime.claims")
    cursor.padding("padding")
    claims = decoded(runtime, _Runtime, KIND)
    return AzureEvidence(
        snp=parse_snp(report, certificates),
        runtime=runtime,
        ak_key=_attestation_key(claims.keys),
        machine=claims.vm_configuration.machine,
        secure_boot=claims.vm_configuration.secure_boot,
        quote=parse_quote(message),
        signature=Signature(scheme="rsa", digest="sha256", numbers=(signature,)),
        registers={"sha256": registers},
    )


def _attestation_key(keys: list[_Key]) -> PublicKey | None:
    named = [key for key in keys if key.kid == ATTESTATION_KEY]
    if len(named) != 1 or named[0].kty != "RSA":
        raise EvidenceError(KIND, "runtime.keys", f"do not have one {ATTESTATION_KEY} for RSA")
    modulus, exponent = (
        int.from_bytes(_base64(f"runtime.keys.{field}", text), "big")
        for field, text in (("n", named[0].n), ("e", named[0].e))
    )
    return rsa_key(modulus, exponent)


def _hex(field: str, text: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except ValueError as error:
        raise EvidenceError(KIND, field, "is no hex") from error


def _base64(field: str, text: str) -> bytes:
    """URL-safe base64 (RFC 4648, section 5) in canonical form, with all of its padding or none."""
    wrong = EvidenceError(KIND, field, "is no URL-safe base64")
    bare = text[:-2] + text[-2:].rstrip("=")
    if not text.isascii() or (len(bare) < len(text) and len(text) % 4):
        raise wrong
    try:
        found = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise wrong from error
    if base64.urlsafe_b64encode(found).rstrip(b"=") != bare.encode("ascii"):
        raise wrong
    return found


def appraise_azure(evidence: AzureEvidence, policy: AzurePolicy, setting: Setting) -> Appraisal:
    """Hold a VM's evidence against a policy.

    Shows, where it passes, what the report shows of the paravisor, and that the virtual TPM which
    that paravisor runs quoted the registers that the policy asks for together with the nonce.
    """
    sheet = Sheet()
    runtime_hash = hashlib.sha256(evidence.runtime).digest()
    report = appraise_snp(evidence.snp, policy.snp, replace(setting, nonce=runtime_hash))
    for check in report.checks:
        if check.name != "nonce is bound":
            sheet.add(check.name, check.outcome)
    sheet.need(
        "report binds the runtime claims",
        evidence.snp.report.report_data == runtime_hash.ljust(64, b"\0"),
        "REPORT_DATA is their SHA-256",
        f"REPORT_DATA is not {runtime_hash.hex()}, the SHA-256 of the claims",
    )
    sheet.need(
        "secure boot",
        evidence.secure_boot or not policy.secure_boot,
        "on" if evidence.secure_boot else "off, and not asked for",
        "the paravisor says that it is off",
    )
    if policy.machines is not None:
        sheet.need(
            "machine is one of ours",
            evidence.machine in policy.machines,
            evidence.machine,
            f"{evidence.machine[:64]!a} is none of ours",
        )
    check_quote(
        sheet,
        evidence.quote,
        evidence.signature,
        evidence.ak_key,
        evidence.registers,
        None,
        policy.quote,
        setting,
    )
    return Appraisal(
        kind=KIND,
        checks=sheet.done(),
        claims=(
            Claim("machine", evidence.machine[:64]),
            Claim("secure_boot", "on" if evidence.secure_boot else "off"),
            *report.claims,
            *quote_claims(evidence.quote, evidence.registers),
        ),
        bound=evidence.quote.nonce,
        device=report.device,
        at=setting.now,
        until=report.until,
        not_covered=NOT_COVERED + report.not_covered,
        parts=(report,),
    )
