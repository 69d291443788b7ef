"""Proofs over a tree too large to hold: one pass over the leaves, logarithmically many hashes.

Every hash of an inclusion or consistency proof is the root of a run of leaves, and the runs do not
overlap (RFC 6962 section 2.1). So the runs are worked out first, and one pass computes them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tidegate.errors import RecordError
from tidegate.transparency.tree import EMPTY_ROOT, Frontier, frontier_root, grow, leaf_hash
from tidegate.verify.record_lines import EntryLine, parse_line, pieces
from tidegate.verify.record_store import Source


class Run(NamedTuple):
    """Leaves `low` to `high - 1`: a subtree."""

    low: int
    high: int


def inclusion_runs(index: int, size: int) -> tuple[Run, ...]:
    """The runs whose roots prove leaf `index` of `size`, from the leaf up.

    Raises:
        IndexError: no such leaf.
    """
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} of {size}")
    runs: list[Run] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            runs.append(Run(middle, high))
            high = middle
        else:
            runs.append(Run(low, middle))
            low = middle
    return tuple(reversed(runs))


def consistency_runs(old_size: int, size: int) -> tuple[Run, ...]:
    """The runs whose roots prove that `size` leaves extend the first `old_size` of them.

    Raises:
        IndexError: the old tree is larger than the new one.
    """
    if not 0 <= old_size <= size:
        raise IndexError(f"size {old_size} of {size}")
    if old_size in (0, size):
        return ()
    runs: list[Run] = []
    low, high = 0, size
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            runs.append(Run(middle, high))
            high = middle
        else:
            runs.append(Run(low, middle))
            low = middle
    if low:
        runs.append(Run(low, high))
    return tuple(reversed(runs))


def roots(leaves: Iterable[bytes], runs: Iterable[Run]) -> tuple[bytes, ...]:
    """The roots of `runs`, in their order, from one pass over the leaf hashes.

    Raises:
        RecordError: there are fewer leaves.
    """
    wanted = tuple(runs)
    queue = sorted(wanted, reverse=True)
    found: dict[Run, bytes] = {}
    frontier: Frontier = ()
    for n, leaf in enumerate(leaves):
        if not queue:
            break
        run = queue[-1]
        if n < run.low:
            continue
        frontier = grow(frontier, n - run.low, leaf)
        if n + 1 == run.high:
            found[queue.pop()] = frontier_root(frontier)
            frontier = ()
    if queue:
        raise RecordError("The record has fewer entries than the proof is about.")
    return tuple(found[run] for run in wanted)


def root_at(leaves: Iterable[bytes], size: int) -> bytes:
    """The root of the first `size` leaves. Raises RecordError where there are fewer."""
    return roots(leaves, [Run(0, size)])[0] if size else EMPTY_ROOT


def leaves_of(source: Source) -> Iterator[bytes]:
    """The leaf hashes of a record, as it stands; checks nothing but that lines are lines.

    Raises:
        RecordError: a line is none, or the medium cannot be read.
    """
    for segment in source.segments():
        for piece in pieces(source, segment):
            if piece.whole:
                line = parse_line(piece.data)
                if isinstance(line, EntryLine):
                    yield leaf_hash(line.raw)


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)
