"""A host with a TPM made known, once: its keys, a credential, and the file of reference values.

The owner makes a credential for both keys of a host; only that TPM can open it. What it answers,
with the maker's certificate and a first quote, is appraised, and becomes the host's file and its
line in the policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from tidegate.attest.appraisal import Appraisal, Setting
from tidegate.attest.certificates import parse_certificates
from tidegate.attest.kinds import Companions, kind_named
from tidegate.attest.tpm import ek_hash
from tidegate.attest.tpm_credential import Credential, make_credential, new_secret
from tidegate.attest.tpm_structures import parse_public
from tidegate.vault.errors import VaultError
from tidegate.vault.grant_policy import Host
from tidegate.vault.release_appraise import Reference


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the owner keeps while a host answers its credential."""

    credential: Credential
    ek: bytes
    ak_name: bytes
    secret: bytes


def challenged(ek_public: bytes, ak_name: bytes) -> Challenge:
    """A credential for the TPM with this endorsement key and an attestation key of this name.

    Raises EvidenceError: the public area is no endorsement key's.
    """
    ek, secret = parse_public(ek_public), new_secret()
    return Challenge(make_credential(ek, ak_name, secret), ek_hash(ek), ak_name, secret)


def enrolled(
    name: str,
    evidence: bytes,
    made: Challenge,
    nonce: bytes,
    roots: Sequence[bytes],
    now: datetime,
    *,
    registers: Mapping[int, bytes],
    revocation: bool = True,
) -> tuple[Host, bytes, Appraisal]:
    """The policy's line for a host, its file, and the appraisal that both rest on.

    Args:
        name: how the policy calls it.
        evidence: with certificates and the answer to `made` (`Tpm.enrolment`).
        made: the credential that it answers.
        nonce: what the quote had to bind, 32 bytes.
        roots: certificates (PEM or DER) of TPM makers that are trusted.
        now: the hour, with its zone.
        registers: what the host is to have measured from now on: number -> 32 bytes.
        revocation: whether the makers' revocation lists are asked for.

    Raises:
        VaultError: the evidence does not pass.
        EvidenceError: it, or a root, is malformed.
    """
    trusted = [one.key_hash for root in roots for one in parse_certificates(root)]
    banks = {"sha256": {str(number): [value.hex()] for number, value in registers.items()}}
    section = {
        "registers": banks,
        "enrolment": {
            "ek": made.ek.hex(),
            "ak_name": made.ak_name.hex(),
            "secret": made.secret.hex(),
        },
    }
    setting = Setting(now=now, nonce=nonce, roots=frozenset(trusted), revocation=revocation)
    kind = kind_named("tpm")
    if kind is None:
        raise VaultError("Evidence of TPMs is not known here.")
    along = Companions(certificates=tuple(roots))
    appraisal = kind.appraise(evidence, along, section, setting)
    if not appraisal.passed:
        raise VaultError(f"{name} is not made known: {appraisal.outcome.text}")
    # From now on this attestation key stands for that TPM.
    known = {"registers": banks, "known": {made.ak_name.hex(): made.ek.hex()}}
    file = msgspec.json.encode(Reference(kind="tpm", section=known, revocation=revocation))
    reference = hashlib.sha256(file).hexdigest()
    host = Host(name=name, kind="tpm", device=appraisal.device, reference=reference)
    return host, file, appraisal
