"""The trace: every integer accumulator of a forward pass, in blocks, with a hash a row.

Positions are counted from the prompt's first token; the last token of an answer is never read by
the model, so a prompt of P and an answer of G tokens have P + G - 1 positions, and those from P - 1
on have logits. A block holds BLOCK consecutive positions, product by product in the order they run,
so that a verifier reads it once and checks many tokens together. Format: `spec/prove.md`. Pure.

A trace gives the weights away (`tests/attacks/prove`): it stays in the verifying zone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate._native._kernels import ffi, lib
from tidegate.models.exact.shape import HEAD, Shape
from tidegate.prove.merkle import HASH_BYTES
from tidegate.transparency.tree import leaf_hash, root_of

I32Array = NDArray[np.int32]

BLOCK = 32
"""Positions a block. More would check a little faster and hold more of the trace in memory."""

_ABLE = bool(lib.tg_sha256_able())

Read = Callable[[int, int], bytes | memoryview]
"""`size` bytes from `offset`, or fewer at the end; they may be overwritten by the next call."""


@dataclass(frozen=True, slots=True)
class Block:
    """Positions `start` to `start + count`, those from `head_start` on with logits."""

    start: int
    count: int
    head_start: int

    def rows(self, op: str) -> range:
        """Positions of this block that have a row of `op`."""
        end = self.start + self.count
        return range(max(self.start, self.head_start) if op == HEAD else self.start, end)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in the trace of a prompt and an answer of given lengths, in tokens."""

    shape: Shape
    prompt: int
    answer: int

    @property
    def positions(self) -> int:
        """How many tokens the model read."""
        return self.prompt + self.answer - 1

    def blocks(self) -> list[Block]:
        """All blocks, in order."""
        return [
            Block(start, min(BLOCK, self.positions - start), self.prompt - 1)
            for start in range(0, self.positions, BLOCK)
        ]

    def block_bytes(self, block: Block) -> int:
        """Size of one block."""
        widths = ((op, self.shape.linear(op)[0]) for _, op in self.shape.products())
        return sum(4 * width * len(block.rows(op)) for op, width in widths)

    def offset(self, index: int) -> int:
        """Where block `index` begins."""
        return sum(self.block_bytes(block) for block in self.blocks()[:index])

    @property
    def rows(self) -> int:
        """Rows in all, which is how many products a verifier checks."""
        body = len(self.shape.products()) - 1
        return body * self.positions + self.answer

    def hashes(self, position: int) -> int:
        """Rows, hence hashes, of one position."""
        return len(self.shape.products()) - (position < self.prompt - 1)

    def hashes_offset(self, position: int) -> int:
        """Where the hashes of a position begin among all."""
        products = len(self.shape.products())
        heads = max(0, position - (self.prompt - 1))
        return HASH_BYTES * ((products - 1) * position + heads)


def split(raw: bytes | bytearray | memoryview, layout: Layout, block: Block) -> list[I32Array]:
    """The rows of a block by product, [positions, outputs] each, without a copy."""
    parts, at = [], 0
    for _, op in layout.shape.products():
        width, count = layout.shape.linear(op)[0], len(block.rows(op))
        part = np.frombuffer(raw, "<i4", width * count, at)
        parts.append(part.reshape(count, width))
        at += part.nbytes
    return parts


def row_hash(row_O: I32Array) -> bytes:
    """SHA-256 of a row's little-endian bytes, whose number its product fixes."""
    return hashlib.sha256(np.ascontiguousarray(row_O, "<i4").data).digest()


def block_hashes(parts: Sequence[I32Array], block: Block) -> list[bytes]:
    """The row hashes of each position of a block, one after another, from `split`'s parts."""
    first_head = block.rows(HEAD).start - block.start
    hashes_NPH = np.empty((block.count, len(parts), HASH_BYTES), np.uint8)
    for product, part in enumerate(parts):
        _hash_rows(part, hashes_NPH[block.count - len(part) :], product)
    bodies = len(parts) - 1
    return [
        hashes_PH[: bodies + (place >= first_head)].tobytes()
        for place, hashes_PH in enumerate(hashes_NPH)
    ]


def _hash_rows(rows_NO: I32Array, hashes_NPH: NDArray[np.uint8], product: int) -> None:
    """Put the hash of each row where it belongs among its position's."""
    count, outputs = rows_NO.shape
    if not _ABLE:
        for row_O, hashes_PH in zip(rows_NO, hashes_NPH, strict=True):
            hashes_PH[product] = np.frombuffer(row_hash(row_O), np.uint8)
    elif count:
        data = ffi.from_buffer("uint8_t[]", np.ascontiguousarray(rows_NO, "<i4"))
        out = ffi.from_buffer("uint8_t[]", hashes_NPH) + HASH_BYTES * product
        lib.tg_sha256_rows(data, 4 * outputs, count, out, hashes_NPH.strides[0])


def position_leaf(hashes: bytes) -> bytes:
    """The tree's leaf for one position, from its rows' hashes in the order products run."""
    return leaf_hash(hashes)


def hash_at(hashes: bytes, number: int) -> bytes:
    """Hash `number` of those of one position."""
    return hashes[HASH_BYTES * number :][:HASH_BYTES]


def trace_root(leaves: Sequence[bytes]) -> bytes:
    """The root over all positions' leaves (RFC 6962)."""
    return root_of(leaves)
