"""Proofs over a tree too large to hold: one pass over the leaves, logarithmically many hashes.

Which runs of leaves a proof needs the roots of, `transparency.runs` works out from sizes alone; the
runs do not overlap, so one pass computes them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tidegate.errors import RecordError
from tidegate.transparency.runs import Run
from tidegate.transparency.tree import EMPTY_ROOT, Frontier, frontier_root, grow, leaf_hash
from tidegate.verify.record_lines import EntryLine, parse_line, pieces
from tidegate.verify.record_store import Source


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
