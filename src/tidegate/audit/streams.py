"""Which logs there are, from when to when, and where they are silent though they never are.

A stream is one kind of log. Its events are counted by the hour, and silence is judged by what
comparable hours hold.
"""

from __future__ import annotations

from bisect import bisect_left
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
    if present[-1] // 24 - present[0] // 24 + 1 < ENOUGH_DAYS:
        why = _quietest(stream.hours.values())
        return [_gap(start, end, why) for start, end in silences if why]
    usual = _Usual(stream, present, silences)
    lengths = sorted(end - start for start, end in silences)
    found = []
    for start, end in silences:
        recurs = len(lengths) - bisect_left(lengths, _RECURS * (end - start)) > 1
        why = usual.busy(start, end) or ("" if recurs else usual.rare(start, end))
        if why:
            found.append(_gap(start, end, why))
    return found


def _gap(start: int, end: int, why: str) -> Gap:
    return Gap(float(start * HOUR), float(end * HOUR), why)


def _quietest(counts: Iterable[int]) -> str:
    least = min(counts)
    return f"every other hour holds {least:,} events or more" if least >= BUSY else ""


class _Usual:
    """What each hour of the day holds. Days in a silence of weeks say nothing of what is usual, and
    one forged date must not cost a look at every day until then."""

    def __init__(
        self, stream: Stream, present: Sequence[int], silences: Sequence[tuple[int, int]]
    ) -> None:
        days = {hour // 24 for hour in present}
        for start, end in silences:
            if end - start <= _LONGEST:
                days.update(range(start // 24, -(-end // 24)))
        self._days = len(days)
        # The first and the last day may be cut.
        self._whole = days - {present[0] // 24, present[-1] // 24}
        self._held = Counter(hour % 24 for hour in present)
        self._quiet = Counter[int]()
        self._least: dict[int, int] = {}
        for day in self._whole:
            for hour in range(24):
                count = stream.hours.get(24 * day + hour, 0)
                if count < BUSY:
                    self._quiet[hour] += 1
                else:
                    self._least[hour] = min(count, self._least.get(hour, count))

    def busy(self, start: int, end: int) -> str:
        """Why one of these hours is never silent, or nothing."""
        for hour in range(start, min(end, start + 24)):
            silent = range(hour, min(end, start + _LONGEST), 24)
            own = sum(other // 24 in self._whole for other in silent)
            least = self._least.get(hour % 24)
            if least is not None and self._quiet[hour % 24] <= own:
                return f"on every other day {hour % 24:02d}:00 holds {least:,} events or more"
        return ""

    def rare(self, start: int, end: int) -> str:
        """Why chance leaves no such silence, or nothing."""
        # Its own whole days are no evidence that such days are usual.
        days = self._days - (max(0, end // 24 - -(-start // 24)) if end - start <= _LONGEST else 0)
        chance = 24.0 * days
        for hour in range(start, min(end, start + _LONGEST)):
            chance *= max(0.0, 1 - (self._held[hour % 24] + 0.5) / (days + 1))
        return f"by chance logs hold such a silence {chance:.1g} times" if chance < _CHANCE else ""
