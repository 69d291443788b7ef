"""Coverage is what a set of bytes would say, whatever the order, and in whatever memory."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tidegate.audit import intervals
from tidegate.audit.coverage import Coverage
from tidegate.audit.event import UNKNOWN, Place
from tidegate.audit.measure import measure
from tidegate.audit.models import Model, Shard

SIZE = 60
MODEL = Model("m", (Shard(0, "a", SIZE, 0), Shard(1, "b", SIZE, SIZE)), ("s3://x/",))
HERE = Place(0, 1)

Spans = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 20)), max_size=30)
Reads = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 40),
        st.one_of(st.just(UNKNOWN), st.integers(0, SIZE - 1)),
        st.integers(1, SIZE),
    ),
    min_size=1,
    max_size=40,
)


@given(Spans)
def test_intervals_are_a_set_of_bytes(spans: list[tuple[int, int]]) -> None:
    held, told = intervals.empty(), set[int]()
    for start, length in spans:
        new = set(range(start, start + length)) - told
        assert intervals.add(held, start, start + length) == len(new)
        told |= new
    assert intervals.size(held) == len(told)
    assert all(before < after for before, after in pairwise(held))


@given(Spans, st.integers(1, 4))
def test_coarser_intervals_never_hold_less(spans: list[tuple[int, int]], most: int) -> None:
    held = intervals.empty()
    for start, length in spans:
        intervals.add(held, 3 * start, 3 * start + length)
    coarse = intervals.coarsen(held, most)
    assert len(coarse) <= 2 * most
    assert intervals.size(intervals.union((held, coarse))) == intervals.size(coarse)


def _cover(reads: list[tuple[int, int, int, int]], coverage: Coverage) -> None:
    for shard, hour, offset, length in reads:
        track = coverage.track("who", 0, False)
        coverage.add(track, MODEL.shards[shard], hour * 3600.0, offset, length, HERE)


@given(Reads)
def test_bounds_hold_what_was_read(reads: list[tuple[int, int, int, int]]) -> None:
    coverage = Coverage()
    _cover(reads, coverage)
    measured = measure([coverage.track("who", 0, False)], MODEL, coverage.stretch)
    sure, loose = [set[int](), set[int]()], [0, 0]
    for shard, _, offset, length in reads:
        if offset >= 0 or length >= SIZE:
            sure[shard] |= set(range(max(0, offset), min(SIZE, max(0, offset) + length)))
        else:
            loose[shard] += length
    known = sum(map(len, sure))
    assert measured.total.least >= known
    most = sum(min(SIZE, len(sure[i]) + loose[i]) for i in (0, 1))
    assert measured.total.most == most
    assert measured.total.least <= measured.total.most
    assert list(measured.most) == sorted(measured.most)
    if not any(loose):
        assert measured.total.least == known


@given(Reads, st.integers(1, 6), st.integers(1, 6))
def test_little_memory_loses_time_and_never_bytes(
    reads: list[tuple[int, int, int, int]], cells: int, spans: int
) -> None:
    whole, tight = Coverage(), Coverage(cells, spans)
    _cover(reads, whole)
    _cover(reads, tight)
    exact = measure([whole.track("who", 0, False)], MODEL, whole.stretch).total
    bounded = measure([tight.track("who", 0, False)], MODEL, tight.stretch).total
    assert bounded.least <= exact.most
    assert bounded.most >= exact.most
    assert sum(len(track.cells) for track in tight.tracks.values()) <= max(cells, 2)


@given(Reads)
def test_a_window_never_holds_more_than_all_time(reads: list[tuple[int, int, int, int]]) -> None:
    coverage = Coverage()
    _cover(reads, coverage)
    measured = measure([coverage.track("who", 0, False)], MODEL, coverage.stretch)
    for window in measured.windows:
        assert window.bounds.most <= measured.total.most
    # Forty hours are less than a week.
    assert measured.windows[1].bounds.most == measured.total.most
