"""Merkle trees kept level by level, so that many leaves can be opened at little cost. Pure.

The same tree as the ledger's (RFC 6962 section 2.1): pairing from the left and passing a lone last
node up gives the same root as splitting at the largest power of two.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.ledger.tree import EMPTY_ROOT, included, leaf_hash, node_hash

__all__ = ["HASH_BYTES", "Tree", "included", "leaf_hash", "path_length"]

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
