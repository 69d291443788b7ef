"""The three outcomes of a check. A check that could not be made is never a pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Pass:
    """It holds. `text`: what was seen to hold."""

    text: str


@dataclass(frozen=True, slots=True)
class Fail:
    """It does not hold. `text`: what was found instead of what."""

    text: str


@dataclass(frozen=True, slots=True)
class CannotVerify:
    """Nobody can tell. `text`: what is missing. Never to be treated as a pass."""

    text: str


Outcome = Pass | Fail | CannotVerify
Word = Literal["pass", "fail", "cannot_verify"]


def combined(outcomes: tuple[Outcome, ...]) -> Outcome:
    """One outcome for several: any failure fails, else anything unknown stays unknown.

    Of nothing at all nobody can tell anything.
    """
    if not outcomes:
        return CannotVerify("nothing was checked")
    failures = [outcome.text for outcome in outcomes if isinstance(outcome, Fail)]
    if failures:
        return Fail("; ".join(dict.fromkeys(failures)))
    unknown = [outcome.text for outcome in outcomes if isinstance(outcome, CannotVerify)]
    if unknown:
        return CannotVerify("; ".join(dict.fromkeys(unknown)))
    return Pass(f"all {len(outcomes)} checks hold")


def word(outcome: Outcome) -> Word:
    """The outcome as machines write it."""
    words: dict[type, Word] = {Pass: "pass", Fail: "fail", CannotVerify: "cannot_verify"}
    return words[type(outcome)]


def exit_status(outcome: Outcome) -> int:
    """0 pass, 1 fail, 2 cannot verify."""
    return {Pass: 0, Fail: 1, CannotVerify: 2}[type(outcome)]
