"""Which logs there are, from when to when, and where they are silent though they never are.

A stream is one kind of log (of one owner). Its events are counted by the hour. Silence is judged by
what the same hour of other days holds, where there are days enough, and by the mean otherwise.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from tidegate.audit.event import Place

HOUR: Final = 3600
ENOUGH_DAYS: Final = 5
EXPECTED: Final = 30.0
"""Events that ought to have been in a silence before it is called a gap."""

_MOST_HOURS: Final = 200_000


@dataclass(slots=True)
class Stream:
    """One stream's hours. `hours`: events in each hour since the epoch."""

    name: str
    hours: Counter[int] = field(default_factory=Counter)
    first: float = float("inf")
    last: float = float("-inf")
    first_place: Place | None = None
    events: int = 0

    def take(self, time: float, place: Place) -> None:
        """Count one event."""
        self.events += 1
        hour = int(time // HOUR)
        if hour in self.hours or len(self.hours) < _MOST_HOURS:
            self.hours[hour] += 1
        if time < self.first:
            self.first, self.first_place = time, place
        if time > self.last:
            self.last = time


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence: from and to in seconds since the epoch, and how many events were expected."""

    start: float
    end: float
    expected: float


def gaps(stream: Stream) -> list[Gap]:
    """Silences in which `EXPECTED` events or more ought to have been."""
    present = sorted(stream.hours)
    if len(present) < 3:
        return []
    usual = _usual(stream, present)
    found = []
    for before, after in itertools.pairwise(present):
        if after - before > 1:
            expected = sum(usual(hour) for hour in range(before + 1, after))
            if expected >= EXPECTED:
                found.append(Gap(float((before + 1) * HOUR), float(after * HOUR), expected))
    return found


def _usual(stream: Stream, present: list[int]) -> Callable[[int], float]:
    days = (present[-1] - present[0]) // 24 + 1
    if days < ENOUGH_DAYS:
        # Few days say nothing about nights: the whole span's mean, and only of its busy part.
        mean = stream.events / (present[-1] - present[0] + 1)
        return lambda hour: mean
    numbers = range(present[0] // 24, present[-1] // 24 + 1)
    by_hour = [
        float(median(stream.hours.get(24 * day + hour, 0) for day in numbers)) for hour in range(24)
    ]
    return lambda hour: by_hour[hour % 24]
