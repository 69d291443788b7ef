"""What a campaign found: one result an attack, and whether all of them may stand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One attack in one world.

    `tokens` were served over all of it. `bits_sent`, `bits_received`: over all tokens, as if nobody
    had stopped it; received counts right bits only, less what errors cost. `tokens_to_alarm`:
    verified tokens, median over `runs`; None where nothing stopped it. `got`: bits received when
    it was stopped, and `bound_bits` what `bound` gave for the same tokens, both of the run in which
    they came nearest to each other. `limit`: tokens within which it has to be caught.
    """

    attack: str
    world: str
    says: str
    tokens: int
    bits_sent: float
    bits_received: float
    caught_by: str | None
    tokens_to_alarm: float | None
    runs: int
    got: float
    bound: str
    bound_bits: float
    within_bound: bool
    must_catch: bool
    limit: int | None = None
    note: str = ""

    @property
    def caught_in_time(self) -> bool:
        """Whether it was caught, within its limit, where it must be."""
        if not self.must_catch:
            return True
        if self.caught_by is None:
            return False
        return self.limit is None or (self.tokens_to_alarm or 0.0) <= self.limit

    @property
    def holds(self) -> bool:
        """Whether the defence held."""
        return self.within_bound and self.caught_in_time

    @property
    def bits_a_token(self) -> float:
        """Received bits a token."""
        return self.bits_received / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """All results of a campaign."""

    results: tuple[Result, ...]

    @property
    def holds(self) -> bool:
        """Whether every bound held and all that must be caught was caught in time."""
        return all(result.holds for result in self.results)

    @property
    def above_bound(self) -> int:
        """Attacks that got more bits than their bound."""
        return sum(not result.within_bound for result in self.results)

    def tokens_to_alarm(self, attack: str, world: str) -> float:
        """Median verified tokens until an attack was caught; inf where it never was.

        Raises KeyError for an attack or world that was not run.
        """
        for result in self.results:
            if (result.attack, result.world) == (attack, world):
                return math.inf if result.tokens_to_alarm is None else result.tokens_to_alarm
        raise KeyError(f"{attack} in {world}")

    def json(self) -> bytes:
        """One object; no NaN or infinity."""
        rows = [
            msgspec.to_builtins(result)
            | {"caught_in_time": result.caught_in_time, "holds": result.holds}
            for result in self.results
        ]
        body = {"holds": self.holds, "above_bound": self.above_bound, "results": rows}
        return msgspec.json.format(msgspec.json.encode(body), indent=1)
