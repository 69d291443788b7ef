"""The three outcomes of a check. A check that could not be made is never a pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Nothing wrong was found. `claim`: what that shows, and how surely; `limits`: what not."""

    claim: str
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """Something is wrong. `reason` for people; `evidence`: where to look, record by record."""

    reason: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotVerify:
    """Nobody can tell, and why. Never a number, never to be treated as a pass."""

    reason: str


Outcome = Pass | Fail | CannotVerify


def combined(outcomes: tuple[Outcome, ...]) -> Outcome:
    """One outcome for several checks: any failure fails; else anything unknown stays unknown.

    Without any check at all nobody can tell.
    """
    if not outcomes:
        return CannotVerify(reason="nothing was checked")
    failures = [outcome for outcome in outcomes if isinstance(outcome, Fail)]
    if failures:
        return Fail(
            reason="; ".join(failure.reason for failure in failures),
            evidence=tuple(line for failure in failures for line in failure.evidence),
        )
    unknown = [outcome for outcome in outcomes if isinstance(outcome, CannotVerify)]
    if unknown:
        return CannotVerify(reason="; ".join(outcome.reason for outcome in unknown))
    passes = [outcome for outcome in outcomes if isinstance(outcome, Pass)]
    limits = dict.fromkeys(limit for outcome in passes for limit in outcome.limits)
    return Pass(claim="; ".join(outcome.claim for outcome in passes), limits=tuple(limits))


def exit_status(outcome: Outcome) -> int:
    """0 pass, 1 fail, 2 cannot verify."""
    return {Pass: 0, Fail: 1, CannotVerify: 2}[type(outcome)]
