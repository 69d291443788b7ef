"""The three outcomes of a check, as values and as text. Pure.

A verdict is for the verifying zone. Where a lie is located was chosen by whoever lied, so a place
that is passed on is a message from him; outside, say only which of the three it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from tidegate.errors import TidegateError
from tidegate.prove.tiers import MEANING, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something is wrong. `part` is what was looked at: a field of the receipt, `trace`,
    `embedding`, `product`, `choice` or `stop`. `token` counts positions from the prompt's first.
    """

    part: str
    token: int | None = None
    layer: int | None = None
    op: str | None = None

    def __str__(self) -> str:
        named = (("token", self.token), ("layer", self.layer), ("op", self.op))
        return ", ".join([self.part, *(f"{n} {v}" for n, v in named if v is not None)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Nothing wrong was found.

    `error_log2`: log2 of the chance that something wrong within the coverage went unnoticed, for
    the whole answer; -inf where it is impossible, None where the tier bounds nothing. `row_log2`:
    the same for one row of one product. `coverage`: what was looked at.
    """

    tier: Tier
    coverage: str
    error_log2: float | None = None
    row_log2: float | None = None
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The claim is wrong, at `place`."""

    tier: Tier
    place: Place
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotVerify:
    """Nobody can tell. Never to be treated as a pass."""

    tier: Tier
    reason: str


Verdict = Pass | Fail | CannotVerify


class FoundError(TidegateError):
    """A check came upon something wrong; carries where. Turned into `Fail` by who began it."""

    code = "proof_failed"

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(f"{place}: {reason}", place=str(place))
        self.place = place
        self.reason = reason


class UnverifiableError(TidegateError):
    """What a check needs is missing or does not fit; turned into `CannotVerify`."""

    code = "cannot_verify"


def lines(verdict: Verdict) -> Iterator[str]:
    """The verdict for people: outcome, tier, bound, coverage, and what is not covered."""
    meaning = MEANING[verdict.tier]
    match verdict:
        case Pass():
            yield f"pass: {meaning.title}: {meaning.shows}"
            yield f"error: {_bound(verdict)}"
            yield f"covered: {verdict.coverage}"
            for gap in (*verdict.limits, *meaning.open):
                yield f"NOT covered: {gap}"
        case Fail():
            yield f"FAIL: {meaning.title}: {verdict.reason}"
            yield f"where: {verdict.place}"
        case CannotVerify():
            yield f"cannot verify: {meaning.title}: {verdict.reason}"


@dataclass(frozen=True, slots=True)
class Report:
    """A verdict as one JSON object; `outcome` is pass, fail or cannot_verify."""

    outcome: str
    tier: str
    error: str | None = None
    error_log2: float | None = None
    row_log2: float | None = None
    coverage: str | None = None
    not_covered: tuple[str, ...] = ()
    place: dict[str, str | int | None] = field(default_factory=dict)
    reason: str | None = None


def report(verdict: Verdict) -> Report:
    """The verdict for machines; an impossible error has `error_log2` None and says so in words."""
    tier = MEANING[verdict.tier]
    match verdict:
        case Pass(error_log2=error):
            return Report(
                "pass",
                tier.title,
                error=_bound(verdict),
                error_log2=error if error is not None and math.isfinite(error) else None,
                row_log2=verdict.row_log2,
                coverage=verdict.coverage,
                not_covered=(*verdict.limits, *tier.open),
            )
        case Fail(place=place):
            named = {"part": place.part, "token": place.token, "layer": place.layer, "op": place.op}
            return Report("fail", tier.title, place=named, reason=verdict.reason)
        case CannotVerify():
            return Report("cannot_verify", tier.title, reason=verdict.reason)


def exit_status(verdict: Verdict) -> int:
    """0 pass, 1 fail, 2 cannot verify."""
    return {Pass: 0, Fail: 1, CannotVerify: 2}[type(verdict)]


def _bound(verdict: Pass) -> str:
    if verdict.error_log2 is None:
        return "no bound"
    if verdict.error_log2 == -math.inf:
        return "none within what is covered"
    row = "" if verdict.row_log2 is None else f" (2^{verdict.row_log2:.0f} a row)"
    return f"at most 2^{verdict.error_log2:.1f} for this answer{row}"
