"""Which logs there are, from when to when, and where they are silent though they never are.

A stream is one kind of log. Its events are counted by the hour, and silence is judged by what
comparable hours hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from tidegate.audit.event import Place

HOUR: Final = 3600
ENOUGH_DAYS: Final = 5
FEWEST_HOURS: Final = 3
BUSY: Final = 20
_CHANCE: Final = 0.01
_LONGEST: Final = 24 * 14

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
        held = self.hours.get(hour)
        if held is not None:
            self.hours[hour] = held + 1
        elif len(self.hours) < _MOST_HOURS:
            self.hours[hour] = 1
        if time < self.first:
            self.first, self.first_place = time, place
        if time > self.last:
            self.last = time


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence: from and to in seconds since the epoch, and what makes it one, in words."""

    start: float
    end: float
    why: str


def gaps(stream: Stream) -> list[Gap]:
    """Silent hours that never are silent.

    Comparable hours are the same ones of other days, or, of a log of few days, all others. A
    silence is a gap where one of its hours holds `BUSY` events or more in every comparable hour; or
    where chance would leave a silence as long as this in less than one log of a hundred, each hour being
    silent as often as it is on other days.
    """
    present = sorted(stream.hours)
    if len(present) < FEWEST_HOURS:
        return []
    days = range(present[0] // 24, present[-1] // 24 + 1)
    found = []
    for before, after in pairwise(present):
        if after - before > 1:
            start, end = float((before + 1) * HOUR), float(after * HOUR)
            # A year of silence is no longer looked at hour by hour.
            silent = range(before + 1, min(after, before + 1 + _LONGEST))
            if len(days) < ENOUGH_DAYS:
                why = _quietest(stream.hours[hour] for hour in present)
            else:
                why = _busy(stream, silent, days) or _unlikely(stream, silent, days)
            if why:
                found.append(Gap(start, end, why))
    return found


def _quietest(counts: Iterable[int]) -> str:
    least = min(counts)
    return f"every other hour holds {least:,} events or more" if least >= BUSY else ""


def _busy(stream: Stream, silent: range, days: range) -> str:
    for hour in silent:
        counts = [
            stream.hours.get(24 * day + hour % 24, 0)
            for day in days
            if 24 * day + hour % 24 != hour
        ]
        # The first and the last day may be cut.
        least = min(counts[1:-1], default=0)
        if least >= BUSY:
            return f"on every other day {hour % 24:02d}:00 holds {least:,} events or more"
    return ""


def _unlikely(stream: Stream, silent: range, days: range) -> str:
    chance = 1.0
    for hour in silent:
        held = sum(24 * day + hour % 24 in stream.hours for day in days)
        chance *= 1 - (held + 0.5) / (len(days) + 1)
    places = 24 * len(days)
    if chance * places >= _CHANCE:
        return ""
    return f"by chance a log of this length holds such a silence {chance * places:.1g} times"
