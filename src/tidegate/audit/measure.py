"""From what was read to how much of a model that is: over all time, and over any window.

At least and at most: bytes of known place count once however often they were read. Bytes of unknown
place may all be different (at most), or all be those of the largest read (at least).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tidegate.audit.coverage import Track
from tidegate.audit.models import Model

Whole = np.ndarray[Any, np.dtype[np.int64]]

DAY: Final = 86_400
WINDOWS: Final = (1, 7, 30)
"""Days of the windows that are measured besides all time."""

_MOST_STEPS: Final = 400
"""Points in time at which coverage is worked out; beyond it, neighbours are put together."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of a model: no fewer than `least`, no more than `most`."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Window:
    """The window of so many days in which most was read, by the time of its end."""

    days: int
    end: float
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Measured:
    """What one or several principals together read of a model.

    times, least, most: coverage at the end of each stretch in which something was read. served:
    bytes in all, as often as they were served. fresh: the share of served bytes of known place that
    nobody of them had read before, or None. known: the share of served bytes whose place is logged.
    days: days on which something was read. busiest: the largest day's share of the model, at most.
    shards: complete shards, at most. opened: whether files were opened without a word on what was
    read of them.
    """

    model: Model
    times: tuple[float, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]
    windows: tuple[Window, ...]
    served: int
    fresh: float | None
    known: float
    days: int
    busiest: float
    shards: int
    opened: bool

    @property
    def total(self) -> Bounds:
        """Over all time."""
        return Bounds(self.least[-1], self.most[-1]) if self.times else Bounds(0, 0)

    def share(self) -> float:
        """At most, of the whole model."""
        return self.total.most / self.model.size

    def crossed(self, share: float) -> float | None:
        """When coverage first may have reached this share; None if never."""
        for time, most in zip(self.times, self.most, strict=True):
            if most >= share * self.model.size:
                return time
        return None

    def rate(self, now: float, days: int = 7) -> float:
        """New bytes a day over the days before `now`, at most."""
        before = 0
        for time, most in zip(self.times, self.most, strict=True):
            if time <= now - days * DAY:
                before = most
        begin = max(now - days * DAY, min(self.times, default=now) - DAY)
        return (self.total.most - before) / max(1.0, (now - begin) / DAY) if self.times else 0.0

    def days_left(self, now: float) -> float | None:
        """Days until the whole model is covered at the present rate; None if that is never, 0 if
        it is covered."""
        left, rate = self.model.size - self.total.most, self.rate(now)
        if left <= 0:
            return 0.0
        return None if rate <= 0 else left / rate


def measure(tracks: Sequence[Track], model: Model, stretch: int) -> Measured:
    """What the tracks, together, hold of the model. `stretch`: seconds of a cell."""
    numbers = sorted({number for track in tracks for number in track.cells})
    step = max(1, -(-len(numbers) // _MOST_STEPS))
    ends = [numbers[min(i + step, len(numbers)) - 1] for i in range(0, len(numbers), step)]
    line = _Line(tracks, model)
    times, least, most = [], [], []
    best: dict[int, tuple[int, Bounds, float]] = {}
    position = 0
    for end in ends:
        while position < len(numbers) and numbers[position] <= end:
            line.take(numbers[position])
            position += 1
        time = float((end + 1) * stretch)
        total = line.bounds(None)
        times.append(time)
        least.append(total.least)
        most.append(total.most)
        for days in WINDOWS:
            bounds = line.bounds((end + 1) - max(1, days * DAY // stretch))
            if days not in best or bounds.most > best[days][0]:
                best[days] = (bounds.most, bounds, time)
    served = sum(cell.served for track in tracks for cell in track.cells.values())
    # Coverage that has been may not shrink because gaps that were closed are taken off it.
    return Measured(
        model=model,
        times=tuple(times),
        least=tuple(np.maximum.accumulate(least).tolist()) if least else (),
        most=tuple(most),
        windows=tuple(Window(days, time, bounds) for days, (_, bounds, time) in best.items()),
        served=served,
        fresh=line.fresh / line.placed if line.placed else None,
        known=line.placed / served if served else 1.0,
        days=len({number * stretch // DAY for number in numbers}),
        busiest=(best[1][0] if best else 0) / model.size,
        shards=line.complete(),
        opened=any(cell.opened for track in tracks for cell in track.cells.values()),
    )


class _Line:
    """The model's line of bytes, cut where any read begins or ends, with when each cut piece was
    last read."""

    def __init__(self, tracks: Sequence[Track], model: Model) -> None:
        self._tracks, self._model = tracks, model
        ends = {shard.begin for shard in model.shards} | {model.size}
        cells = [cell for track in tracks for cell in track.cells.values()]
        found = [_numbers(cell.spans) for cell in cells]
        cuts = np.concatenate([np.array(sorted(ends), np.int64), *found])
        self._cut_N: Whole = np.unique(cuts)
        self._size_N = np.diff(self._cut_N)
        begins = np.array([shard.begin for shard in model.shards], np.int64)
        self._shard_N = np.searchsorted(begins, self._cut_N[:-1], "right") - 1
        self._size_S = np.array([shard.size for shard in model.shards], np.int64)
        self._index = {shard.number: i for i, shard in enumerate(model.shards)}
        self._last_N = np.full(len(self._size_N), np.iinfo(np.int64).min, np.int64)
        room = sum(len(cell.unknown) for cell in cells)
        # One column a shard and stretch of unplaced bytes: stretch, shard, all bytes, largest read.
        self._loose_4U: Whole = np.zeros((4, room), np.int64)
        self._loose = 0
        self._opened: list[tuple[int, int]] = []
        self._closed = 0
        self.placed = self.fresh = 0

    def take(self, number: int) -> None:
        """Everything that was read in this stretch."""
        for track in self._tracks:
            cell = track.cells.get(number)
            if cell is None:
                continue
            self._closed += cell.closed
            places = np.searchsorted(self._cut_N, _numbers(cell.spans)).tolist()
            for first, last in zip(places[::2], places[1::2], strict=True):
                seen = self._last_N[first:last]
                new = seen == np.iinfo(np.int64).min
                self.fresh += int(self._size_N[first:last][new].sum())
                seen[:] = number
            unplaced = sum(total for total, _ in cell.unknown.values())
            self.placed += max(0, cell.served - unplaced)
            for shard, (total, largest) in cell.unknown.items():
                self._loose_4U[:, self._loose] = number, self._index[shard], total, largest
                self._loose += 1
            self._opened += [(number, self._index[shard]) for shard in cell.opened]

    def bounds(self, since: int | None) -> Bounds:
        """What was read in stretches from `since` on, or ever."""
        floor = np.iinfo(np.int64).min + 1 if since is None else since
        covered_S = self._covered(floor)
        number_U, shard_U, total_U, largest_U = self._loose_4U[:, : self._loose]
        inside = number_U >= floor
        largest_S = np.zeros_like(covered_S)
        np.maximum.at(largest_S, shard_U[inside], largest_U[inside])
        loose_S = _summed(shard_U[inside], total_U[inside], len(covered_S))
        most_S = np.minimum(self._size_S, covered_S + loose_S)
        for number, shard in self._opened:
            # Opened, and no read of it logged: anything up to all of it.
            if number >= floor and not most_S[shard]:
                most_S[shard] = self._size_S[shard]
        least = max(0, int(np.maximum(covered_S, largest_S).sum()) - self._closed)
        return Bounds(least, int(most_S.sum()))

    def complete(self) -> int:
        """Shards that may have been read to the last byte."""
        covered_S = self._covered(np.iinfo(np.int64).min + 1)
        _, shard_U, total_U, _ = self._loose_4U[:, : self._loose]
        covered_S += _summed(shard_U, total_U, len(covered_S))
        for _, shard in self._opened:
            covered_S[shard] = covered_S[shard] or self._size_S[shard]
        return int((covered_S >= self._size_S).sum())

    def _covered(self, floor: int) -> Whole:
        inside = self._last_N >= floor
        return _summed(self._shard_N[inside], self._size_N[inside], len(self._size_S))


def _numbers(spans: array[int]) -> Whole:
    return np.frombuffer(spans, np.int64) if spans else np.zeros(0, np.int64)


def _summed(place_U: Whole, value_U: Whole, count: int) -> Whole:
    """Values added up by place. In doubles, which are exact up to 2**53 bytes."""
    return np.rint(np.bincount(place_U, value_U.astype(np.float64), count)).astype(np.int64)
