"""Appraisal of evidence: numbered checks against reference values, under a clock that is handed in.

Every kind of evidence has a parser, `parse(data) -> value` or `EvidenceError`, and an appraiser,
`appraise(value, policy, setting) -> Appraisal`. The policy holds the reference values of that kind;
the `Setting` holds what every kind needs: the hour, the nonce that was asked for, the roots that
are trusted and the revocation lists that were fetched. Roles are those of RFC 9334: this is the
verifier, the reference values are the endorser's and the owner's. Pure.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import datetime

from tidegate.attest.outcome import CannotVerify, Fail, Outcome, Pass, combined
from tidegate.errors import ConfigError

LEAST_NONCE = 16
"""Bytes: fewer could be guessed, or met again by chance."""


@dataclass(frozen=True, slots=True)
class Check:
    """One numbered check: what was looked at and what came of it."""

    number: int
    name: str
    outcome: Outcome

    @property
    def detail(self) -> str:
        """What was seen, what was found instead, or what is missing."""
        return self.outcome.text


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that the evidence says and its signature covers, as text (bytes in hex)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an appraisal of any kind is made under.

    `now`: the hour, with its zone. `nonce`: what the host was asked to bind, be it a nonce or the
    hash of a nonce and a key; None where nobody asked, so that freshness cannot be told. `roots`:
    SHA-256 of the subject public key info of each trusted root. `crls`: revocation lists as they
    were fetched, DER or PEM. `revocation`: whether to ask after revocation at all; where not, the
    appraisal says so.
    """

    now: datetime
    nonce: bytes | None
    roots: frozenset[bytes]
    crls: tuple[bytes, ...] = ()
    revocation: bool = True

    def __post_init__(self) -> None:
        if self.now.tzinfo is None or self.now.utcoffset() is None:
            raise ConfigError("Evidence is appraised at an hour with a time zone.", setting="now")
        if self.nonce is not None and len(self.nonce) < LEAST_NONCE:
            raise ConfigError(
                f"A nonce of {len(self.nonce)} bytes can be guessed; use {LEAST_NONCE} or more.",
                setting="nonce",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """What came of holding one piece of evidence against a policy.

    `kind`: such as `snp`, `tpm`, `azure-snp-vtpm`, `tdx`, `sgx`, `nvidia-gpu`. `device`: a stable
    name of the hardware (chip id, endorsement key, device key), to tell one host from another;
    empty where the evidence has none. `bound`: what the holder had the evidence bind (REPORT_DATA,
    qualifyingData, a nonce), for a key to be tied to. Both say nothing unless `outcome` is a
    pass. `not_covered`: what this kind of evidence, or this policy, leaves open. `at`: the hour it
    was made for. `until`: when something that was relied on ends, if anything does.
    """

    kind: str
    checks: tuple[Check, ...]
    claims: tuple[Claim, ...]
    bound: bytes
    device: str
    at: datetime
    until: datetime | None = None
    not_covered: tuple[str, ...] = ()
    parts: tuple[Appraisal, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Fail if any check fails, else cannot verify if any cannot be made, else pass."""
        return combined(tuple(check.outcome for check in self.checks))

    @property
    def passed(self) -> bool:
        """Whether every check was made and holds."""
        return isinstance(self.outcome, Pass)

    def claim(self, name: str) -> str | None:
        """The value of the claim of that name, or None where the evidence makes no such claim."""
        return next((claim.value for claim in self.claims if claim.name == name), None)


@dataclass(slots=True)
class Sheet:
    """The checks of one appraisal, numbered in the order in which they are made."""

    checks: list[Check] = field(default_factory=list)

    def add(self, name: str, outcome: Outcome) -> bool:
        """Note a check; true where it passed."""
        self.checks.append(Check(len(self.checks) + 1, name, outcome))
        return isinstance(outcome, Pass)

    def need(self, name: str, holds: bool, seen: str, otherwise: str) -> bool:
        """Note a check that was made: a pass with `seen` where it holds, else a failure."""
        return self.add(name, Pass(seen) if holds else Fail(otherwise))

    def unknown(self, name: str, missing: str) -> bool:
        """Note a check that could not be made, and what is missing."""
        return self.add(name, CannotVerify(missing))

    def done(self) -> tuple[Check, ...]:
        return tuple(self.checks)


def freshness(found: bytes, setting: Setting) -> Outcome:
    """Whether the evidence binds the nonce that was asked for; compared in constant time.

    `found` may be longer than the nonce by zeros alone, as REPORT_DATA is where a shorter nonce
    was put into its 64 bytes.
    """
    if setting.nonce is None:
        return CannotVerify("no nonce was handed in, so this may be evidence of another day")
    if len(setting.nonce) > len(found):
        return Fail(f"the nonce has {len(setting.nonce)} bytes, the evidence binds {len(found)}")
    wanted = setting.nonce.ljust(len(found), b"\0")
    if not hmac.compare_digest(found, wanted):
        return Fail(f"binds {found.hex()}, which is not the nonce that was asked for")
    return Pass("binds the nonce that was asked for")


def in_date(start: datetime, end: datetime, now: datetime, what: str) -> Outcome:
    """Whether `now` lies within the validity of `what`, both ends included."""
    if now < start:
        return Fail(f"{what} is valid only from {start:%Y-%m-%d %H:%M:%SZ}")
    if now > end:
        return Fail(f"{what} expired on {end:%Y-%m-%d %H:%M:%SZ}")
    return Pass(f"{what} is valid until {end:%Y-%m-%d}")


def soonest(*ends: datetime | None) -> datetime | None:
    """The first of several ends, None standing for none."""
    return min((end for end in ends if end is not None), default=None)
