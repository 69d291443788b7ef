"""The Merkle tree over the log's entries, and its proofs (RFC 6962 and 9162, section 2.1).

The tree lets an auditor who keeps only a checkpoint check that one entry is in the log, or that a
later log extends an earlier one, with logarithmically many hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()

Frontier = tuple[bytes, ...]
"""Roots of the perfect subtrees that make up a tree, largest first: one a 1 bit of its size."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def grow(frontier: Frontier, size: int, leaf: bytes) -> Frontier:
    """The frontier of `size + 1` leaves, from that of `size` leaves and the next leaf hash."""
    roots = list(frontier)
    while size & 1:
        leaf = node_hash(roots.pop(), leaf)
        size >>= 1
    return (*roots, leaf)


def completed(frontier: Frontier, size: int, leaf: bytes) -> tuple[bytes, ...]:
    """The roots of the perfect subtrees that leaf number `size` completes, from itself up.

    `frontier` is that of the `size` leaves before it.
    """
    made = [leaf]
    for root in reversed(frontier):
        if not size & 1:
            break
        made.append(node_hash(root, made[-1]))
        size >>= 1
    return tuple(made)


def frontier_root(frontier: Frontier) -> bytes:
    """The root of the tree that `frontier` makes up."""
    if not frontier:
        return EMPTY_ROOT
    root = frontier[-1]
    for left in reversed(frontier[:-1]):
        root = node_hash(left, root)
    return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """MTH over leaf hashes (RFC 6962 section 2.1)."""
    frontier: Frontier = ()
    for size, leaf in enumerate(leaves):
        frontier = grow(frontier, size, leaf)
    return frontier_root(frontier)


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """PATH(index, leaves), from the leaf up (RFC 6962 section 2.1.1).

    Raises:
        IndexError: no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    if len(leaves) == 1:
        return ()
    k = _split(len(leaves))
    if index < k:
        return (*inclusion_proof(leaves[:k], index), root_of(leaves[k:]))
    return (*inclusion_proof(leaves[k:], index - k), root_of(leaves[:k]))


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """PROOF(old_size, leaves) (RFC 6962 section 2.1.2); empty where there is nothing to prove.

    Raises:
        IndexError: the old tree is larger than the new one.
    """
    if not 0 <= old_size <= len(leaves):
        raise IndexError(f"size {old_size} of {len(leaves)}")
    if old_size in (0, len(leaves)):
        return ()
    return _subproof(leaves, old_size, whole=True)


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> tuple[bytes, ...]:
    if old_size == len(leaves):
        return () if whole else (root_of(leaves),)
    k = _split(len(leaves))
    if old_size <= k:
        return (*_subproof(leaves[:k], old_size, whole=whole), root_of(leaves[k:]))
    return (*_subproof(leaves[k:], old_size - k, whole=False), root_of(leaves[:k]))


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows `leaf` at `index` of the tree `root` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, seen = index, size - 1, leaf
    for part in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            seen = node_hash(part, seen)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            seen = node_hash(seen, part)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and seen == root


def consistent(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether `proof` shows that the new tree extends the old one (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    parts = list(proof)
    if old_size & (old_size - 1) == 0:
        parts.insert(0, old_root)
    if not parts:
        return False
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_seen = seen = parts[0]
    for part in parts[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old_seen, seen = node_hash(part, old_seen), node_hash(part, seen)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            seen = node_hash(seen, part)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and old_seen == old_root and seen == root
