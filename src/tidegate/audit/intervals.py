"""Sets of bytes as sorted, disjoint, half-open intervals in one flat array: start, end, start, …"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable


def empty() -> array[int]:
    """No bytes."""
    return array("q")


def add(spans: array[int], start: int, end: int) -> int:
    """Put [start, end) in, in place. Returns how many bytes were not in before."""
    if end <= start:
        return 0
    # Reading forwards is by far the most frequent: then only the last end moves.
    if spans and start == spans[-1]:
        spans[-1] = end
        return end - start
    if not spans or start > spans[-1]:
        spans.append(start)
        spans.append(end)
        return end - start
    first = bisect_left(spans, start)
    last = bisect_right(spans, end)
    # An odd index lies inside an interval, or at its end: that interval is swallowed whole.
    low = spans[first - 1] if first % 2 else start
    high = spans[last] if last % 2 else end
    held = sum(
        min(end, spans[i + 1]) - max(start, spans[i])
        for i in range(first - first % 2, last + last % 2, 2)
        if min(end, spans[i + 1]) > max(start, spans[i])
    )
    spans[first - first % 2 : last + last % 2] = array("q", (low, high))
    return end - start - held


def size(spans: array[int]) -> int:
    """Bytes in the set."""
    return sum(spans[1::2]) - sum(spans[::2])


def union(sets: Iterable[array[int]]) -> array[int]:
    """All bytes of all sets."""
    pairs = sorted((spans[i], spans[i + 1]) for spans in sets for i in range(0, len(spans), 2))
    made = empty()
    for start, end in pairs:
        if made and start <= made[-1]:
            made[-1] = max(made[-1], end)
        else:
            made.append(start)
            made.append(end)
    return made


def coarsen(spans: array[int], most: int) -> array[int]:
    """At most `most` intervals, by closing the narrowest gaps: never fewer bytes than before."""
    count = len(spans) // 2
    if count <= most:
        return spans
    gaps = sorted(spans[2 * i + 2] - spans[2 * i + 1] for i in range(count - 1))
    widest = gaps[count - most - 1]
    made = array("q", spans[:2])
    for i in range(1, count):
        if spans[2 * i] - made[-1] <= widest:
            made[-1] = spans[2 * i + 1]
        else:
            made.extend(spans[2 * i : 2 * i + 2])
    return made
