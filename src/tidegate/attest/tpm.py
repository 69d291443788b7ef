"""TPM 2.0: an endorsement key's certificate, an attestation key in the same TPM, and its quote.

The maker certifies the endorsement key. A credential that only that TPM can open ties the
attestation key to it. The attestation key signs quotes, which bind a nonce and the registers.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tidegate.attest.appraisal import Appraisal, Claim, Setting, Sheet, soonest
from tidegate.attest.certificates import EXTENDED_KEY_USAGE, Certificate
from tidegate.attest.chain import Chain, check_chain, lists_end
from tidegate.attest.der import SEQUENCE, Der
from tidegate.attest.errors import EvidenceError
from tidegate.attest.outcome import CannotVerify, Fail, Outcome, Pass
from tidegate.attest.signatures import PublicKey
from tidegate.attest.tpm_evidence import TpmEvidence
from tidegate.attest.tpm_quote import QuotePolicy, check_quote, quote_claims
from tidegate.attest.tpm_structures import KIND, Public

ENDORSEMENT: Final = "2.23.133.8.1"
"""tcg-kp-EKCertificate: the purpose that an endorsement key's certificate names."""

NOT_COVERED: Final = (
    "Whoever can probe the bus between a separate TPM and the processor can feed it lies.",
    "What was loaded without being measured, and what went wrong after it was.",
    "A TPM in software, or one that a host lends its guests, shows the protocol and no hardware.",
)
KNOWN_BEFORE: Final = (
    "What became of the endorsement key's certificate since the attestation key was activated."
)
_SIGNER: Final = frozenset({"fixedTPM", "fixedParent", "sensitiveDataOrigin", "restricted", "sign"})


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A credential that the verifier made: for which keys, and the secret that it wrapped."""

    ek: bytes
    ak_name: bytes
    secret: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmPolicy:
    """Reference values for a host with a TPM.

    `enrolment`: the credential that this evidence answers. `known`: attestation keys that were
    activated before: name -> SHA-256 of the endorsement key's public key info. `hosts`: such
    hashes of the hosts that are taken, None for any TPM whose maker is trusted.
    """

    quote: QuotePolicy
    enrolment: Enrolment | None = None
    known: tuple[tuple[bytes, bytes], ...] = ()
    hosts: frozenset[bytes] | None = None


def appraise_tpm(evidence: TpmEvidence, policy: TpmPolicy, setting: Setting) -> Appraisal:
    """Hold a host's evidence against a policy.

    Shows, where it passes, that a TPM whose maker is trusted holds the attestation key, and quoted
    the registers that the policy asks for together with the nonce.
    """
    sheet = Sheet()
    known = dict(policy.known)
    host = known.get(evidence.ak.name) if evidence.ak is not None else None
    chain: Chain | None = None
    if host is not None:
        sheet.add("attestation key was activated before", Pass(f"under the TPM {host.hex()[:16]}"))
    else:
        chain, host = _endorsement(sheet, evidence, setting)
        sheet.add("attestation key lives in that TPM", _activated(evidence, policy, host))
    if policy.hosts is not None:
        _host(sheet, host, policy.hosts)
    _attestation_key(sheet, evidence)
    check_quote(
        sheet,
        evidence.quote,
        evidence.signature,
        evidence.ak_key,
        evidence.registers,
        evidence.log,
        policy.quote,
        setting,
    )
    ak_name = evidence.ak.name.hex() if evidence.ak else ""
    return Appraisal(
        kind=KIND,
        checks=sheet.done(),
        claims=(
            Claim("ak_name", ak_name),
            *quote_claims(evidence.quote, evidence.registers),
        ),
        bound=evidence.quote.nonce,
        device=f"tpm-ek:{host.hex()}" if host else "",
        at=setting.now,
        until=_until(chain, setting),
        not_covered=NOT_COVERED
        + ((KNOWN_BEFORE,) if known.get(evidence.ak.name if evidence.ak else b"") else ())
        + (() if setting.revocation else ("Revocation: nobody asked after it.",)),
    )


def _until(chain: Chain | None, setting: Setting) -> datetime | None:
    return soonest(chain.until, lists_end(chain, setting)) if chain else None


def _endorsement(
    sheet: Sheet, evidence: TpmEvidence, setting: Setting
) -> tuple[Chain | None, bytes | None]:
    """Note whether the endorsement key is certified. Returns the chain and the key's hash."""
    ek = evidence.ek
    if ek is None:
        missing = "no certificate of an endorsement key was handed in"
        sheet.unknown("EK chains to a trusted root", missing)
        return None, None
    chain = check_chain(sheet, "EK", ek, evidence.pool, setting)
    sheet.add("EK certificate is for an endorsement key", _purpose(ek))
    public = evidence.ek_public
    if public is not None:
        sheet.need(
            "EK is the certificate's",
            public.key is not None and spki_of(public.key) == ek.spki,
            "the public area has the certificate's key",
            "the public area has another key than the certificate",
        )
        sheet.need(
            "EK is kept by the TPM",
            {"fixedTPM", "fixedParent", "restricted", "decrypt"} <= public.attributes,
            ", ".join(sorted(public.attributes)),
            f"has only: {', '.join(sorted(public.attributes))}",
        )
    return chain, ek.key_hash


def spki_of(key: PublicKey) -> bytes:
    """The subject public key info of a key, as certificates carry it."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _purpose(ek: Certificate) -> Outcome:
    entry = ek.extension(EXTENDED_KEY_USAGE)
    if entry is None:
        return Fail("the certificate does not say what its key is for")
    try:
        outer = Der(entry.value, KIND, "extKeyUsage")
        inside = outer.enter(SEQUENCE)
        outer.end()
        purposes: list[str] = []
        while inside.left:
            purposes.append(inside.oid())
    except EvidenceError as error:
        return Fail(error.message)
    if ENDORSEMENT not in purposes:
        return Fail(f"the certificate is for {', '.join(purposes)}")
    return Pass("tcg-kp-EKCertificate")


def _activated(evidence: TpmEvidence, policy: TpmPolicy, host: bytes | None) -> Outcome:
    enrolment = policy.enrolment
    if enrolment is None:
        return CannotVerify("no credential was made for this attestation key")
    if evidence.activation is None:
        return CannotVerify("the host did not answer the credential")
    if evidence.ak is None or evidence.ak.name != enrolment.ak_name:
        return Fail("the credential was made for another attestation key")
    if host != enrolment.ek:
        return Fail("the credential was made for another TPM")
    if not hmac.compare_digest(evidence.activation, enrolment.secret):
        return Fail("the credential was answered with another secret")
    return Pass("its TPM opened the credential that was made for both keys")


def _host(sheet: Sheet, host: bytes | None, hosts: frozenset[bytes]) -> None:
    name = "host is one of ours"
    if host is None:
        sheet.unknown(name, "nothing names the TPM")
    else:
        sheet.need(name, host in hosts, host.hex(), f"{host.hex()} is no host of ours")


def _attestation_key(sheet: Sheet, evidence: TpmEvidence) -> None:
    """A key that is not restricted would sign whatever bytes the host made look like a quote."""
    name = "attestation key signs only what the TPM wrote"
    if evidence.ak is None:
        sheet.unknown(name, "the attestation key came without its public area")
        return
    attributes = evidence.ak.attributes
    sheet.need(
        name,
        attributes >= _SIGNER and "decrypt" not in attributes,
        ", ".join(sorted(attributes)),
        f"has: {', '.join(sorted(attributes))}; wanted: {', '.join(sorted(_SIGNER))}, no decrypt",
    )


def ek_hash(ek_public: Public) -> bytes:
    """How a TPM is named here: SHA-256 of its endorsement key's subject public key info."""
    if ek_public.key is None:
        raise EvidenceError(KIND, "ek.unique", "is no key that is taken")
    return hashlib.sha256(spki_of(ek_public.key)).digest()
