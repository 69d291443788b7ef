"""How far a plan is, from the book alone: whoever holds the fleet's key can ask, at any time."""

from __future__ import annotations

from typing import Final

import msgspec

from tidegate.verify.fleet_book import Book, Poison
from tidegate.verify.fleet_plan import Plan
from tidegate.verify.fleet_scale import Crew, drain_seconds, wanted

_LOOKED_AT: Final = 8
"""Verdicts that a worker's speed is reckoned from: the last ones of the plan."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of shards, answers and tokens; what is wrong, by name; and what the backlog asks for.

    `settled` shards have a verdict; `aside` gives the reason by shard, `poisoned` the answers that
    kill a worker or that the model cannot run; `quarantined` verdicts did not open. `findings` were
    in the record when it was planned. `tokens_per_worker_second` None: nothing to reckon by yet.
    `drain_seconds` is for `wanted_workers`.
    """

    shards: int
    settled: int
    answers: int
    tokens: int
    backlog_shards: int
    backlog_tokens: int
    aside: dict[str, str]
    poisoned: tuple[Poison, ...]
    quarantined: int
    findings: dict[str, int]
    tokens_per_worker_second: float | None
    wanted_workers: int
    drain_seconds: float | None

    @property
    def complete(self) -> bool:
        """Whether every shard has a verdict; what they say is for the report."""
        return self.settled == self.shards


def status_of(book: Book, crew: Crew) -> Status:
    """The plan's state now. Raises ConfigError without a plan, StoreError."""
    plan = book.plan()
    names = {ticket.name for ticket in plan.tickets}
    settled = book.settled() & names
    backlog = sum(ticket.tokens for ticket in plan.tickets if ticket.name not in settled)
    rate = _rate(book, plan, settled)
    left = len(names) - len(settled)
    workers = wanted(backlog, left, rate, crew)
    poisoned = [one for name, found in book.poisoned().items() if name in settled for one in found]
    return Status(
        shards=len(names),
        settled=len(settled),
        answers=plan.answers,
        tokens=plan.tokens,
        backlog_shards=left,
        backlog_tokens=backlog,
        aside={name: told for name, told in book.aside().items() if name in names - settled},
        poisoned=tuple(poisoned),
        quarantined=book.quarantined(),
        findings=plan.findings,
        tokens_per_worker_second=rate,
        wanted_workers=workers,
        drain_seconds=drain_seconds(backlog, rate, workers),
    )


def _rate(book: Book, plan: Plan, settled: set[str]) -> float | None:
    last = [ticket for ticket in plan.tickets if ticket.name in settled][-_LOOKED_AT:]
    tokens, seconds = 0, 0.0
    for ticket in last:
        verdict = book.verdict(ticket.name, plan.subject)
        if verdict is not None and verdict.seconds > 0:
            tokens, seconds = tokens + ticket.tokens, seconds + verdict.seconds
    return tokens / seconds if seconds else None
