"""How many workers a backlog asks for. Pure; whoever scales a cluster reads it as a hint."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """How many workers there may be; `within` seconds the backlog should be gone (None: whenever).

    Without a deadline, or before anybody knows how fast a worker is, `least` is enough.
    """

    least: int = 1
    most: int = 1
    within: float | None = None


def drain_seconds(backlog_tokens: int, rate: float | None, workers: int) -> float | None:
    """Seconds until the backlog is gone; None while nobody knows.

    Args:
        backlog_tokens: of shards without a verdict.
        rate: tokens a second of one worker.
        workers: how many there are.
    """
    if backlog_tokens == 0:
        return 0.0
    if not rate or workers < 1:
        return None
    return backlog_tokens / (rate * workers)


def wanted(backlog_tokens: int, backlog_shards: int, rate: float | None, crew: Crew) -> int:
    """Workers for the backlog: enough for the deadline, never more than there are shards.

    None for an empty backlog; `crew.least` where no deadline or no rate is known.
    """
    if backlog_shards == 0:
        return 0
    needed = crew.least
    if crew.within is not None and rate:
        needed = math.ceil(backlog_tokens / (rate * max(crew.within, 1.0)))
    return max(1, min(max(needed, crew.least), crew.most, backlog_shards))
