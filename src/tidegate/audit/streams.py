"""Which logs there are, from when to when, and where they are silent though they never are.

A stream is one kind of log. Its events are counted by the hour, and silence is judged by what
comparable hours hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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
_RECURS: Final = 0.6

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
    silence is a gap where one of its hours holds `BUSY` events or more in every comparable hour. It
    is one too where chance, each hour being silent as often as it is on other days, leaves a
    silence as long as this in less than one log of a hundred, and no other silence is nearly as
    long: nights and weekends recur.
    """
    present = sorted(stream.hours)
    if len(present) < FEWEST_HOURS:
        return []
    silences = [(before + 1, after) for before, after in pairwise(present) if after - before > 1]
    lengths = sorted(after - before for before, after in silences)
    few = present[-1] // 24 - present[0] // 24 + 1 < ENOUGH_DAYS
    found = []
    for start, end in silences:
        if few:
            why = _quietest(stream.hours.values())
        else:
            # Days that lie wholly in the silence say nothing of what is usual.
            days = [
                *range(present[0] // 24, -(-start // 24)),
                *range(end // 24, present[-1] // 24 + 1),
            ]
            # A year of silence is not looked at hour by hour.
            silent = range(start, min(end, start + _LONGEST))
            recurs = sum(length >= _RECURS * (end - start) for length in lengths) > 1
            why = _busy(stream, silent, days) or ("" if recurs else _rare(stream, silent, days))
        if why:
            found.append(Gap(float(start * HOUR), float(end * HOUR), why))
    return found


def _quietest(counts: Iterable[int]) -> str:
    least = min(counts)
    return f"every other hour holds {least:,} events or more" if least >= BUSY else ""


def _busy(stream: Stream, silent: range, days: Sequence[int]) -> str:
    for hour in silent[:24]:
        others = [24 * day + hour % 24 for day in days]
        counts = [stream.hours.get(other, 0) for other in others if other not in silent]
        # The first and the last day may be cut.
        least = min(counts[1:-1], default=0)
        if least >= BUSY:
            return f"on every other day {hour % 24:02d}:00 holds {least:,} events or more"
    return ""


def _rare(stream: Stream, silent: range, days: Sequence[int]) -> str:
    held = [sum(24 * day + hour in stream.hours for day in days) for hour in range(24)]
    chance = 24.0 * len(days)
    for hour in silent:
        chance *= 1 - (held[hour % 24] + 0.5) / (len(days) + 1)
    return f"by chance logs hold such a silence {chance:.1g} times" if chance < _CHANCE else ""
