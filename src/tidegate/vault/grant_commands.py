"""What people, hosts and the clock may ask of grants; `grant_decide` decides each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tidegate.attest.appraisal import Appraisal
from tidegate.vault.grant_entries import Assertion, Verdict
from tidegate.vault.grant_policy import Policy


@dataclass(frozen=True, slots=True)
class AdoptPolicy:
    """Go by this policy from now on."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class SetCurrent:
    """Of `model`, the manifest with this digest (hex) and so many shards is the current one."""

    by: str
    model: str
    manifest: str
    shards: int


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `id`: 32 hex digits drawn by the broker; `seconds`: how long the grant lives."""

    by: str
    id: str
    why: str
    model: str
    manifest: str
    shards: tuple[int, ...]
    host: str
    seconds: int
    break_glass: bool = False


@dataclass(frozen=True, slots=True)
class Judge:
    """An approval or a denial, for one team, with the hardware key's answer."""

    by: str
    grant: str
    verdict: Verdict
    team: str
    assertion: Assertion
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A nonce, 32 bytes in hex, for the next evidence."""

    by: str
    grant: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What came of a host's evidence: the appraisal, and in hex the hashes of the evidence and of
    the reference values that it was held against."""

    appraisal: Appraisal
    reference: str
    digest: str


@dataclass(frozen=True, slots=True)
class Release:
    """The shards' keys, sealed to the key with this hash (hex)."""

    by: str
    grant: str
    evidence: Evidence
    key: str


@dataclass(frozen=True, slots=True)
class Renew:
    """The lease, for longer, with fresh evidence."""

    by: str
    grant: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Wipe:
    """The host says that it wiped its keys."""

    by: str
    grant: str


@dataclass(frozen=True, slots=True)
class Revoke:
    """End the grant."""

    by: str
    grant: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """End what has run out."""


Command: TypeAlias = (
    AdoptPolicy | SetCurrent | Ask | Judge | Challenge | Release | Renew | Wipe | Revoke | Tick
)
