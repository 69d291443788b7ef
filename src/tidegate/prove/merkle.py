"""Merkle trees kept level by level, so that many leaves can be opened at little cost. Pure.

The same tree as the ledger's (RFC 6962 section 2.1): pairing from the left and passing a lone last
node up gives the same root as splitting at the largest power of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidegate.transparency.tree import EMPTY_ROOT, included, leaf_hash, node_hash

HASH_BYTES = 32


class Tree:
    """A tree over leaf hashes; holds two hashes a leaf."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [tuple(leaves)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            pairs = zip(below[::2], below[1::2], strict=False)
            level = [node_hash(left, right) for left, right in pairs]
            self._levels.append((*level, *(below[-1:] if len(below) % 2 else ())))

    @property
    def root(self) -> bytes:
        """The tree's root, 32 bytes."""
        return self._levels[-1][0] if self._levels[-1] else EMPTY_ROOT

    def path(self, index: int) -> tuple[bytes, ...]:
        """What `included` takes to show leaf `index`. Raises IndexError."""
        if not 0 <= index < len(self._levels[0]):
            raise IndexError(f"leaf {index} of {len(self._levels[0])}")
        path = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                path.append(level[index ^ 1])
            index >>= 1
        return tuple(path)


def path_length(index: int, size: int) -> int:
    """How many hashes the path of leaf `index` of `size` has."""
    length = 0
    while size > 1:
        length += index ^ 1 < size
        index, size = index >> 1, (size + 1) >> 1
    return length


def opened(rows: Sequence[bytes], tree: Tree, numbers: Iterable[int]) -> bytes:
    """Some leaves, ascending and once each: the row behind the leaf, then its path."""
    parts = [(rows[number], *tree.path(number)) for number in sorted(set(numbers))]
    return b"".join(b"".join(part) for part in parts)


def opened_bytes(numbers: Iterable[int], size: int, row_bytes: int) -> int:
    """How long the openings of some leaves of a tree of `size` are."""
    return sum(row_bytes + HASH_BYTES * path_length(number, size) for number in set(numbers))


class OpeningError(Exception):
    """An opening is truncated, goes on too long, or is under another root; at leaf `number`."""

    def __init__(self, number: int | None, reason: str) -> None:
        super().__init__(reason)
        self.number = number
        self.reason = reason


def open_rows(
    raw: bytes, numbers: Iterable[int], size: int, row_bytes: int, root: bytes
) -> dict[int, bytes]:
    """The rows that `opened` put into `raw`, each checked against the root of a tree of `size`.

    Raises OpeningError.
    """
    found: dict[int, bytes] = {}
    at = 0
    for number in sorted(set(numbers)):
        start = at + row_bytes
        end = start + HASH_BYTES * path_length(number, size)
        if end > len(raw):
            raise OpeningError(number, "the openings are truncated")
        path = [raw[i : i + HASH_BYTES] for i in range(start, end, HASH_BYTES)]
        row = raw[at:start]
        if not included(leaf_hash(row), number, size, path, root):
            raise OpeningError(number, "this row is not the owner's")
        found[number] = row
        at = end
    if at != len(raw):
        raise OpeningError(None, "more rows are opened than were used")
    return found
