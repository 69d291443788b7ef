"""A TPM's quote held against reference values of its registers. Pure.

Shared by every kind of evidence that has a TPM in it; whose key signed is for the caller to show.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.attest.appraisal import Claim, Setting, Sheet, freshness
from tidegate.attest.outcome import Fail, Outcome, Pass
from tidegate.attest.signatures import PublicKey
from tidegate.attest.tpm_log import Event, replay
from tidegate.attest.tpm_structures import BANK_SIZES, PCRS, Quote, Signature
from tidegate.errors import ConfigError

Registers = Mapping[str, Mapping[int, bytes]]
"""Values of registers: bank -> number -> digest. A quote carries only one hash over them all."""


@dataclass(frozen=True, slots=True)
class Register:
    """The values that register `number` of `bank` may have."""

    bank: str
    number: int
    allowed: frozenset[bytes]

    def __post_init__(self) -> None:
        size = BANK_SIZES.get(self.bank)
        if size is None or self.bank == "sha1" or not 0 <= self.number < PCRS:
            raise ConfigError(
                f"There is no register {self.number} of bank {self.bank}; banks are sha256, "
                "sha384 and sha512.",
                setting="registers",
            )
        if not self.allowed or any(len(value) != size for value in self.allowed):
            raise ConfigError(
                f"Values of {self.bank} have {size} bytes, and there must be one at least.",
                setting="registers",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotePolicy:
    """Reference values of a quote. `least_firmware`: the TPM's own firmware version. `boot`: reset
    and restart count of the boot that was attested before, where it must be that one still.
    `log`: whether an event log must be there and give the registers.
    """

    registers: tuple[Register, ...]
    least_firmware: int = 0
    boot: tuple[int, int] | None = None
    log: bool = False


def check_quote(
    sheet: Sheet,
    quote: Quote,
    signature: Signature,
    key: PublicKey | None,
    found: Registers,
    log: tuple[Event, ...] | None,
    policy: QuotePolicy,
    setting: Setting,
) -> None:
    """Note whether that key signed the quote, and whether it says what the policy asks."""
    sheet.need(
        "quote is signed by the attestation key",
        signature.holds(key, quote.raw),
        f"{signature.scheme} with {signature.digest} verifies",
        "the signature does not verify under the attestation key",
    )
    sheet.add("nonce is bound", _fresh(quote, setting))
    covered = sheet.add("registers are those that were quoted", _quoted(quote, signature, found))
    name = "registers have reference values"
    if not policy.registers:
        sheet.unknown(name, "the policy has no reference value, so what booted is unknown")
    elif not covered:
        sheet.unknown(name, "the values handed in are not those that were quoted")
    else:
        sheet.add(name, _reference(quote, found, policy))
    sheet.need(
        "TPM's firmware is new enough",
        quote.firmware >= policy.least_firmware,
        f"{quote.firmware:#018x}",
        f"{quote.firmware:#018x}, at least {policy.least_firmware:#018x} wanted",
    )
    if policy.boot is not None:
        sheet.need(
            "boot is the one attested before",
            (quote.resets, quote.restarts) == policy.boot,
            f"reset {quote.resets}, restart {quote.restarts}",
            f"reset {quote.resets}, restart {quote.restarts}; it was {policy.boot}",
        )
    if log is not None:
        sheet.add("event log gives the registers", _replayed(quote, found, log))
    elif policy.log:
        sheet.unknown("event log gives the registers", "no event log was handed in")


def _fresh(quote: Quote, setting: Setting) -> Outcome:
    """A TPM binds a nonce of any length; one with zeros behind it is another nonce."""
    if setting.nonce is not None and len(quote.nonce) != len(setting.nonce):
        return Fail(f"binds {quote.nonce.hex()}, which is not the nonce that was asked for")
    return freshness(quote.nonce, setting)


def _quoted(quote: Quote, signature: Signature, found: Registers) -> Outcome:
    """Whether one hash over the selected registers, in order, is the quote's (Part 3, 18.4)."""
    together = b""
    for bank, numbers in quote.selection:
        for number in numbers:
            value = found.get(bank, {}).get(number)
            if value is None:
                return Fail(f"register {number} of {bank} was quoted and not handed in")
            together += value
    if not any(numbers for _, numbers in quote.selection):
        return Fail("no register was quoted")
    if not hmac.compare_digest(hashlib.new(signature.digest, together).digest(), quote.digest):
        return Fail("the hash over the registers is not the quote's")
    return Pass(
        "; ".join(
            f"{bank} {','.join(map(str, numbers))}" for bank, numbers in quote.selection if numbers
        )
    )


def _reference(quote: Quote, found: Registers, policy: QuotePolicy) -> Outcome:
    quoted = {(bank, number) for bank, numbers in quote.selection for number in numbers}
    wrong: list[str] = []
    for register in policy.registers:
        if (register.bank, register.number) not in quoted:
            wrong.append(f"register {register.number} of {register.bank} was not quoted")
        elif (value := found[register.bank][register.number]) not in register.allowed:
            wrong.append(f"register {register.number} of {register.bank} is {value.hex()}")
    if wrong:
        return Fail("; ".join(wrong))
    return Pass(", ".join(f"{one.bank} {one.number}" for one in policy.registers))


def _replayed(quote: Quote, found: Registers, log: tuple[Event, ...]) -> Outcome:
    wrong: list[str] = []
    seen = 0
    for bank, numbers in quote.selection:
        values = replay(log, bank)
        for number in sorted(set(numbers) & set(values)):
            seen += 1
            if found.get(bank, {}).get(number) != values[number]:
                wrong.append(f"{bank} {number}")
    if wrong:
        return Fail(f"replaying the log gives other values: {', '.join(wrong)}")
    if not seen:
        return Fail("the log measures into no register that was quoted")
    return Pass(f"{len(log)} events give {seen} registers")


def quote_claims(quote: Quote, found: Registers) -> tuple[Claim, ...]:
    """What the quote says, and the registers that its hash covers."""
    values = [
        Claim(f"{bank}.{number}", value.hex())
        for bank, numbers in quote.selection
        for number in numbers
        if (value := found.get(bank, {}).get(number)) is not None
    ]
    return (
        Claim("nonce", quote.nonce.hex()),
        Claim("tpm_firmware", f"{quote.firmware:#018x}"),
        Claim("tpm_resets", str(quote.resets)),
        Claim("tpm_restarts", str(quote.restarts)),
        Claim("tpm_clock_safe", "yes" if quote.safe else "no"),
        *values,
    )
