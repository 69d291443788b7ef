"""How much of which model each principal has read, in memory that does not grow with the log.

What was read is kept as intervals on the model's line of bytes, a set for each stretch of time.
When there are more sets than may be, stretches become twice as long: the time of a read is then
known less well, and what was read is not. When there are more intervals than may be, the narrowest
gaps are closed, and counted. Where a log does not say which bytes were served, their number is kept
for each shard: as many different bytes at most, as many as the largest read at least.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tidegate.audit.event import UNKNOWN, Place
from tidegate.audit.intervals import add, coarsen, empty, size, union
from tidegate.audit.models import Shard

FIRST_STRETCH: Final = 3600
MOST_CELLS: Final = 150_000
MOST_INTERVALS: Final = 1_500_000
MOST_PRINCIPALS: Final = 50_000
_NEVER: Final = -(1 << 62)
COARSE: Final = 64
"""Intervals that a set keeps when gaps have to be closed."""

OTHERS: Final = "(further principals)"
"""Stands for all principals after the first 50,000: their reads are added up as one's."""


@dataclass(slots=True)
class Cell:
    """What one principal read of one model in one stretch of time.

    unknown: for each shard, bytes served of unknown place, in all and in the largest read.
    opened: shards that were opened without a word on what was read. served: bytes, counted as often
    as they were served. closed: bytes in gaps that were closed to save memory.
    """

    spans: array[int] = field(default_factory=empty)
    unknown: dict[int, tuple[int, int]] = field(default_factory=dict)
    opened: set[int] = field(default_factory=set)
    served: int = 0
    reads: int = 0
    closed: int = 0

    def merge(self, other: Cell) -> None:
        """Take in what another stretch holds."""
        if other.spans:
            self.spans = union((self.spans, other.spans)) if self.spans else other.spans
        for shard, (total, largest) in other.unknown.items():
            had, most = self.unknown.get(shard, (0, 0))
            self.unknown[shard] = (had + total, max(most, largest))
        self.opened |= other.opened
        self.served += other.served
        self.reads += other.reads
        self.closed += other.closed


@dataclass(slots=True)
class Track:
    """One principal's reads of one model, all under grants or all not.

    cells: by stretch. at, current: the stretch of the last read and its cell, since reads follow.
    """

    cells: dict[int, Cell] = field(default_factory=dict)
    first: float = float("inf")
    last: float = float("-inf")
    reads: int = 0
    places: list[Place] = field(default_factory=list)
    final: Place | None = None
    at: int = _NEVER
    current: Cell = field(default_factory=Cell)

    def evidence(self) -> list[Place]:
        """The first reads and the last."""
        return [
            *self.places,
            *([self.final] if self.final and self.final not in self.places else []),
        ]


_FIRST_PLACES: Final = 3

Key = tuple[str, int, bool]
"""Who, which model, and whether under a grant."""


class Coverage:
    """All tracks. `stretch`: seconds of one cell; doubles when memory asks for it."""

    def __init__(self, most_cells: int = MOST_CELLS, most_intervals: int = MOST_INTERVALS) -> None:
        self.stretch = FIRST_STRETCH
        self.tracks: dict[Key, Track] = {}
        self.principals: set[str] = set()
        self._cells = 0
        self._intervals = 0
        self._most_cells, self._most_intervals = most_cells, most_intervals

    def add(
        self, track: Track, shard: Shard, time: float, offset: int, length: int, place: Place
    ) -> None:
        """Count one read. offset, length: within the shard; -1 where the log does not say."""
        track.reads += 1
        if time < track.first:
            track.first = time
        if time > track.last:
            track.last = time
        if len(track.places) < _FIRST_PLACES:
            track.places.append(place)
        else:
            track.final = place
        stretch = int(time // self.stretch)
        if stretch != track.at:
            track.current = self._cell(track, time)
            track.at = int(time // self.stretch)
        cell = track.current
        cell.reads += 1
        if length == UNKNOWN:
            cell.opened.add(shard.number)
            return
        length = min(length, shard.size)
        cell.served += length
        if offset < 0 and length < shard.size:
            total, largest = cell.unknown.get(shard.number, (0, 0))
            cell.unknown[shard.number] = (total + length, max(largest, length))
            return
        start = shard.begin + max(0, offset)
        held = len(cell.spans)
        add(cell.spans, start, min(start + length, shard.begin + shard.size))
        self._intervals += (len(cell.spans) - held) // 2
        if self._intervals > self._most_intervals:
            self._spare()

    def of(self, who: str, model: int, granted: bool) -> Track | None:
        """One principal's track, if it has one."""
        return self.tracks.get((who, model, granted))

    def _cell(self, track: Track, time: float) -> Cell:
        stretch = int(time // self.stretch)
        cell = track.cells.get(stretch)
        if cell is None:
            cell = track.cells[stretch] = Cell()
            self._cells += 1
            if self._cells > self._most_cells:
                self._lengthen()
                cell = track.cells[int(time // self.stretch)]
        return cell

    def track(self, who: str, model: int, granted: bool) -> Track:
        """One principal's track, made if there is none yet."""
        key = (who, model, granted)
        track = self.tracks.get(key)
        if track is not None:
            return track
        if who not in self.principals:
            if len(self.principals) >= MOST_PRINCIPALS:
                key = (OTHERS, model, granted)
            else:
                self.principals.add(who)
        return self.tracks.setdefault(key, Track())

    def _lengthen(self) -> None:
        """Join stretches two by two, until there is room again."""
        floor = len(self.tracks)
        while self._cells > max(self._most_cells // 2, floor):
            self.stretch *= 2
            for track in self.tracks.values():
                joined: dict[int, Cell] = {}
                for stretch in sorted(track.cells):
                    cell = track.cells[stretch]
                    kept = joined.setdefault(stretch // 2, cell)
                    if kept is not cell:
                        kept.merge(cell)
                track.cells, track.at = joined, _NEVER
            self._cells = sum(len(track.cells) for track in self.tracks.values())
        self._most_cells = max(self._most_cells, 2 * self._cells)
        self._count()

    def _spare(self) -> None:
        """Join stretches, and where that is not enough, close gaps: bytes never get fewer."""
        joined = self._cells
        if joined > 2 * len(self.tracks):
            keep, self._most_cells = self._most_cells, joined
            self._lengthen()
            self._most_cells = keep
        self._count()
        if self._intervals <= self._most_intervals // 2:
            return
        for cell in self._all():
            before = size(cell.spans)
            cell.spans = coarsen(cell.spans, COARSE)
            cell.closed += size(cell.spans) - before
        self._count()
        self._most_intervals = max(self._most_intervals, 2 * self._intervals)

    def _count(self) -> None:
        self._intervals = sum(len(cell.spans) // 2 for cell in self._all())

    def _all(self) -> Iterator[Cell]:
        for track in self.tracks.values():
            yield from track.cells.values()
