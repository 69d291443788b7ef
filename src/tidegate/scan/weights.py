"""The signs of weights, read out of whatever layout they were written in.

A weight's sign outlives rounding: from fp32 to bf16, int8 and four bits, only weights that round to
zero lose it. So signs are what fingerprints are made of. A `Layout` turns bytes into signs for one
reading of them; a stretch without a header is read in every layout that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Signs = np.ndarray[Any, np.dtype[np.bool_]]
"""True where a weight is below zero."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to write weights down.

    Args:
        name: as shown to people.
        width: bytes a block, or a number; a stretch may begin at any byte of one.
        signs: whole blocks, one a row, to the signs of their weights in order.
    """

    name: str
    width: int
    signs: Callable[[Bytes], Signs]


def _top_bit(blocks_NW: Bytes) -> Signs:
    return np.asarray(blocks_NW[:, -1] >= 128)


def _half(blocks_NW: Bytes, at: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    pair = np.ascontiguousarray(blocks_NW[:, at : at + 2])
    return pair.view("<f2").astype(np.float32)


def _nibbles(codes_NW: Bytes, *, high_first: bool = False) -> Bytes:
    low_NW, high_NW = codes_NW & 15, codes_NW >> 4
    pair = (high_NW, low_NW) if high_first else (low_NW, high_NW)
    return np.stack(pair, axis=-1).reshape(len(codes_NW), -1)


def _halves(codes_NW: Bytes) -> Bytes:
    """ggml's order: the low nibbles are the first half of a block's weights."""
    return np.hstack([codes_NW & 15, codes_NW >> 4])


def _q4_0(blocks_NW: Bytes) -> Signs:
    scale_N1 = _half(blocks_NW, 0)
    below_NW = _halves(blocks_NW[:, 2:]) < 8
    above_NW = _halves(blocks_NW[:, 2:]) > 8
    return np.where(scale_N1 < 0, above_NW, below_NW)


def _q4_1(blocks_NW: Bytes) -> Signs:
    with np.errstate(over="ignore", invalid="ignore"):
        value = _halves(blocks_NW[:, 4:]) * _half(blocks_NW, 0) + _half(blocks_NW, 2)
    return np.asarray(value < 0)


def _q8_0(blocks_NW: Bytes) -> Signs:
    return np.asarray(blocks_NW[:, 2:] >= 128)


def _q4_k(blocks_NW: Bytes) -> Signs:
    """ggml's superblocks of 256: 8 sub-blocks of 32 with scales and offsets of six bits."""
    packed = blocks_NW[:, 4:16]
    low, mid, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scale_N8 = np.hstack([low & 63, (high & 15) | (low >> 6) << 4]).astype(np.float32)
    offset_N8 = np.hstack([mid & 63, (high >> 4) | (mid >> 6) << 4]).astype(np.float32)
    quads = blocks_NW[:, 16:].reshape(-1, 4, 32)
    codes = np.stack([quads & 15, quads >> 4], axis=2).reshape(-1, 8, 32)
    with np.errstate(over="ignore", invalid="ignore"):
        value = (
            codes * (_half(blocks_NW, 0) * scale_N8)[:, :, None]
            - (_half(blocks_NW, 2) * offset_N8)[:, :, None]
        )
    return np.asarray(value < 0).reshape(len(blocks_NW), 256)


def _bytes_signs(blocks_NW: Bytes) -> Signs:
    return np.asarray(blocks_NW >= 128)


LAYOUTS: Final = (
    Layout("numbers of 2 bytes (bf16, fp16)", 2, _top_bit),
    Layout("fp32", 4, _top_bit),
    Layout("numbers of a byte (int8, fp8)", 1, _bytes_signs),
    Layout("int4, low half first", 1, lambda b: _nibbles(b) >= 8),
    Layout("int4, high half first", 1, lambda b: _nibbles(b, high_first=True) >= 8),
    Layout("nf4, high half first", 1, lambda b: _nibbles(b, high_first=True) < 7),
    Layout("nf4, low half first", 1, lambda b: _nibbles(b) < 7),
    Layout("4-bit codes from 0, low half first", 1, lambda b: _nibbles(b) < 8),
    Layout("q8_0", 34, _q8_0),
    Layout("q4_0", 18, _q4_0),
    Layout("q4_1", 20, _q4_1),
    Layout("q4_K", 144, _q4_k),
)


def of_numbers(raw_B: Bytes, width: int) -> Signs:
    """Signs of IEEE numbers of 2 or 4 bytes, bfloat16 among them; -0 counts as zero."""
    blocks_NW = raw_B[: len(raw_B) // width * width].reshape(-1, width)
    negative_N = blocks_NW[:, -1] >= 128
    zero_N = blocks_NW.view(f"<u{width}").reshape(-1) << 1 == 0
    return np.asarray(negative_N & ~zero_N)


def readings(data: bytes, first: str = "") -> Iterator[tuple[Layout, Signs]]:
    """Every layout and phase that a stretch may be read in, with its signs; `first` comes first."""
    raw_B = np.frombuffer(data, np.uint8)
    for layout in sorted(LAYOUTS, key=lambda one: one.name != first):
        for phase in _phases(raw_B, layout):
            count = (len(raw_B) - phase) // layout.width
            if count > 0:
                blocks_NW = raw_B[phase : phase + count * layout.width].reshape(count, -1)
                yield layout, layout.signs(blocks_NW).reshape(-1)


def _phases(raw_B: Bytes, layout: Layout) -> list[int]:
    """Where blocks may begin. With scales, where the byte that varies least would be one."""
    if layout.width <= 4:
        return list(range(layout.width))
    rows = len(raw_B) // layout.width
    if rows < 8:
        return []
    columns_NW = raw_B[: rows * layout.width].reshape(rows, -1) >> 2
    crowd_W = np.array(
        [np.bincount(columns_NW[:, k], minlength=64).max() for k in range(layout.width)]
    )
    # The exponent of a half-precision scale is its second byte; offsets have one as well.
    likely = np.argsort(-crowd_W)[:3]
    return sorted({int(k - back) % layout.width for k in likely for back in (1, 3)})
