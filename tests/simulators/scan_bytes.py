"""Bytes for the scanner's tests: weights drawn like trained ones, and text."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tidegate.bench.scan_formats import FORMATS

Floats = np.ndarray[Any, np.dtype[np.float32]]

TEXT = (
    b"The gate counts every byte that leaves, and refuses what no budget covers. "
    b"A meter that disagrees with the others stops the traffic within one lease; an operator reads "
    b"the evidence, says what was wrong, and opens it again. Nothing is guessed in between.\n"
)


def weights(rows: int = 256, seed: int = 1) -> Floats:
    """Rows of 512 numbers round zero, each row of its own size."""
    draw = np.random.default_rng(seed)
    size_R1 = np.exp(draw.normal(-3, 0.3, (rows, 1)))
    return np.asarray(draw.normal(0, 1, (rows, 512)) * size_R1, np.float32)


def bf16(rows: int = 256, seed: int = 1) -> bytes:
    """The same, as bytes."""
    return FORMATS["bf16"](weights(rows, seed))


def prose(size: int) -> bytes:
    """Words of a small vocabulary in an order that does not repeat."""
    words = TEXT.split()
    noise = hashlib.shake_256(b"prose").digest(size // 2)
    return b" ".join(words[value % len(words)] for value in noise)[:size]


def random(size: int, label: bytes = b"") -> bytes:
    """What encryption would give."""
    return hashlib.shake_256(b"random" + label).digest(size)
