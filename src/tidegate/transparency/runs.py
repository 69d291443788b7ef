"""Proofs as runs of leaves: which subtrees' roots prove a place, or that a log only grew.

Every hash of an inclusion or consistency proof is the root of a run of leaves, and the runs do not
overlap (RFC 6962 section 2.1). So they are worked out first, from sizes alone, and whoever holds
the leaves or their subtrees' roots looks them up or computes them in one pass.
"""

from __future__ import annotations

from typing import NamedTuple


class Run(NamedTuple):
    """Leaves `low` to `high - 1`: a subtree."""

    low: int
    high: int


class Node(NamedTuple):
    """The perfect subtree of 2^`level` leaves from leaf `number` * 2^`level` on."""

    level: int
    number: int


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


def nodes_of(run: Run) -> tuple[Node, ...]:
    """The perfect subtrees that `run` is made of, largest first: its frontier.

    `run` is one of a proof's, or begins at 0: its first leaf is a multiple of its largest subtree.
    """
    nodes: list[Node] = []
    low = run.low
    while low < run.high:
        level = (run.high - low).bit_length() - 1
        nodes.append(Node(level, low >> level))
        low += 1 << level
    return tuple(nodes)


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)
