"""Evidence of a host with a TPM 2.0, as a file. Pure. The format is in `spec/evidence.md`."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Final

import msgspec

from tidegate.attest.certificates import Certificate, parse_certificate
from tidegate.attest.errors import EvidenceError
from tidegate.attest.json_file import decoded
from tidegate.attest.signatures import PublicKey, load_key
from tidegate.attest.tpm_log import Event, parse_log
from tidegate.attest.tpm_quote import Registers
from tidegate.attest.tpm_structures import (
    BANK_SIZES,
    KIND,
    PCRS,
    Public,
    Quote,
    Signature,
    parse_public,
    parse_quote,
    parse_signature,
)

FORMAT: Final = "tidegate/tpm-evidence/v1"
MOST_CERTIFICATES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmEvidence:
    """One host's evidence. `activation`: the secret that its TPM recovered. `ak_key` is there
    without `ak` where the attestation key came without its public area.
    """

    ek: Certificate | None
    pool: tuple[Certificate, ...]
    ek_public: Public | None
    ak: Public | None
    ak_key: PublicKey | None
    activation: bytes | None
    quote: Quote
    signature: Signature
    registers: Registers
    log: tuple[Event, ...] | None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    ak_public: bytes
    quote: bytes
    signature: bytes
    registers: dict[str, dict[str, str]]
    ek_certificate: bytes | None = None
    certificates: list[bytes] = []
    ek_public: bytes | None = None
    activation: bytes | None = None
    log: bytes | None = None


class _TrusteeQuote(msgspec.Struct, forbid_unknown_fields=True):
    message: bytes
    signature: bytes
    pcrs: list[str]


class _TrusteeFile(msgspec.Struct, forbid_unknown_fields=True):
    ak_public: bytes
    tpm_quote: _TrusteeQuote


def parse_tpm(data: bytes) -> TpmEvidence:
    """Evidence from a file of the format in `spec/evidence.md`, or of Trustee's attester for TPMs.

    Raises `EvidenceError` for anything else.
    """
    if b'"tpm_quote"' in data:
        return _trustee(decoded(data, _TrusteeFile, KIND))
    found = decoded(data, _File, KIND)
    if found.format != FORMAT:
        raise EvidenceError(KIND, "format", f"is not {FORMAT}")
    if len(found.certificates) > MOST_CERTIFICATES:
        raise EvidenceError(KIND, "certificates", f"are more than {MOST_CERTIFICATES}")
    ak = parse_public(found.ak_public)
    return TpmEvidence(
        ek=None if found.ek_certificate is None else parse_certificate(found.ek_certificate),
        pool=tuple(parse_certificate(der) for der in found.certificates),
        ek_public=None if found.ek_public is None else parse_public(found.ek_public),
        ak=ak,
        ak_key=ak.key,
        activation=found.activation,
        quote=parse_quote(found.quote),
        signature=parse_signature(found.signature),
        registers={bank: _bank(bank, values) for bank, values in found.registers.items()},
        log=None if found.log is None else parse_log(found.log),
    )


def _trustee(found: _TrusteeFile) -> TpmEvidence:
    return TpmEvidence(
        ek=None,
        pool=(),
        ek_public=None,
        ak=None,
        ak_key=load_key(found.ak_public),
        activation=None,
        quote=parse_quote(found.tpm_quote.message),
        signature=parse_signature(found.tpm_quote.signature),
        registers={"sha256": listed("sha256", found.tpm_quote.pcrs)},
        log=None,
    )


def listed(bank: str, values: list[str]) -> dict[int, bytes]:
    """Registers given as a list of digests in hex, from 0."""
    if len(values) > PCRS:
        raise EvidenceError(KIND, "registers", f"are {len(values)}, at most {PCRS} can be")
    return _bank(bank, {str(number): value for number, value in enumerate(values)})


def _bank(bank: str, values: dict[str, str]) -> dict[int, bytes]:
    size = BANK_SIZES.get(bank)
    if size is None:
        raise EvidenceError(KIND, "registers", "are of a bank that is not known")
    found: dict[int, bytes] = {}
    for name, text in values.items():
        field = f"registers.{bank}"
        if name not in {str(number) for number in range(PCRS)}:
            raise EvidenceError(KIND, field, "names a register that there is not")
        try:
            value = binascii.unhexlify(text)
        except (binascii.Error, ValueError) as error:
            raise EvidenceError(KIND, f"{field}.{name}", "is no hex") from error
        if len(value) != size:
            raise EvidenceError(KIND, f"{field}.{name}", f"has {len(value)} bytes, not {size}")
        found[int(name)] = value
    return found
