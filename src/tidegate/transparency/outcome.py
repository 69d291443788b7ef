"""The three outcomes of looking at a log. What could not be checked is never a pass."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Problem(StrEnum):
    """What is wrong with a log, conclusively."""

    SPLIT_VIEW = "split_view"
    """Two checkpoints signed by the log, of which neither extends the other."""
    ROLLBACK = "rollback"
    """The log shows fewer entries than it signed before."""
    FORGED = "forged"
    """A signature that should be the log's or a witness's is not; or the proof is wrong."""
    ALTERED = "altered"
    """The entries are not those that the log signed."""
    MALFORMED = "malformed"
    """The log signed something that is no entry."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing wrong was found. `claim`: what that shows; `limits`: what it does not.

    `witnesses`: how many cosigned; 0 where the policy asks for none: then it is the log's word.
    """

    claim: str
    limits: tuple[str, ...] = ()
    witnesses: int = 0


@dataclass(frozen=True, slots=True)
class Fail:
    """Something is wrong. `evidence` are the signed notes that show it to anybody."""

    problem: Problem
    reason: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CannotVerify:
    """Nobody can tell, and why."""

    reason: str


Outcome = Pass | Fail | CannotVerify


def exit_status(outcome: Outcome) -> int:
    """0 pass, 1 fail, 2 cannot verify."""
    return {Pass: 0, Fail: 1, CannotVerify: 2}[type(outcome)]
