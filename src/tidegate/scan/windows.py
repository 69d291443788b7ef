"""How much in a window of bytes is neither repetition nor text.

Three quantities a window, from one pass in C (`_native/scan.c`; `measure_slowly` is its reference):
order-0 entropy H, the cost L of a greedy LZ parse (both in bits a byte), and the share of bytes
that UTF-8 text does not have. The **LZ gain** `(H − L)/8` is what repetition saves over a code of
single bytes. Text repeats words and gains; weights, raw, quantised, base64'd, compressed or
encrypted, gain nothing, though their entropy may well be lower than that of compressed text.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from tidegate._native._scan import ffi, lib

Array = np.ndarray[Any, np.dtype[np.float32]]

LEAST_WINDOW: Final = 256
LONGEST_WINDOW: Final = 65_536
_LEAST_MATCH = 6
_MATCH_BITS = 8


class Measures(NamedTuple):
    """One number a window each: H and L in bits a byte, and the share of bytes no text has."""

    entropy_W: Array
    cost_W: Array
    binary_W: Array

    @property
    def gain_W(self) -> Array:  # noqa: N802
        """LZ gain as a share of the window's size."""
        return np.asarray((self.entropy_W - self.cost_W) / 8, np.float32)


@dataclass(frozen=True, slots=True)
class Weighing:
    """How the three quantities become one score, in bits a byte: the LZ cost, less a penalty for
    gain, plus one for bytes that no text has, counted up to `binary_most`."""

    gain: float = 12.0
    binary: float = 30.0
    binary_most: float = 0.1

    def score(self, measures: Measures) -> Array:
        """The score of each window; more is more like weights."""
        binary_W = np.minimum(measures.binary_W, self.binary_most)
        score_W = measures.cost_W - self.gain * measures.gain_W + self.binary * binary_W
        return np.asarray(score_W, np.float32)


@cache
def _nlog() -> Array:
    count_C = np.arange(LONGEST_WINDOW + 1, dtype=np.float64)
    return (count_C * np.log2(np.maximum(count_C, 1))).astype(np.float32)


@cache
def _nlog_C() -> Any:  # noqa: N802
    return ffi.from_buffer("float[]", _nlog())


def measure(data: bytes | memoryview, window: int) -> Measures:
    """Measures of every whole window of `window` bytes; a shorter rest is left out.

    Raises ValueError for a window that is not between 256 bytes and 64 KiB.
    """
    if not LEAST_WINDOW <= window <= LONGEST_WINDOW:
        raise ValueError(f"a window has {LEAST_WINDOW} to {LONGEST_WINDOW} bytes, not {window}")
    count = len(data) // window
    out_QW = np.empty((3, count), np.float32)
    lib.tg_scan_windows(
        ffi.from_buffer("uint8_t[]", data),
        count,
        window,
        _nlog_C(),
        *(ffi.from_buffer("float[]", row_W, require_writable=True) for row_W in out_QW),
    )
    return Measures(*out_QW)


def stands_out(
    measures: Measures, weighing: Weighing, line: float, dull_gain: float, dull_cost: float
) -> bool:
    """Whether any window may score above `line`, or gain less and cost more than is said.

    One pass in C that settles plain text; what it lets through is for `Weighing.score` to judge.
    """
    rows = (ffi.from_buffer("float[]", row_W) for row_W in measures)
    weights = (weighing.gain, weighing.binary, weighing.binary_most)
    count = len(measures.cost_W)
    return bool(lib.tg_scan_standing_out(count, *rows, line, *weights, dull_gain, dull_cost))


def binary_bytes(data: bytes) -> int:
    """How many bytes no UTF-8 text has."""
    return int(lib.tg_scan_binary(ffi.from_buffer("uint8_t[]", data), len(data)))


def find(data: bytes, sought: bytes, start: int = 0) -> int:
    """As `bytes.find`, faster where nothing is found."""
    return int(
        lib.tg_scan_find(ffi.from_buffer("uint8_t[]", data), start, len(data), sought, len(sought))
    )


def measure_slowly(data: bytes) -> tuple[float, float, float]:
    """The definition: the measures of one window that is all of `data`."""
    size = len(data)
    literals: Counter[int] = Counter(data[:1])
    seen: dict[int, int] = {}
    bits, at = 0, 1
    while at + 8 <= size:
        word = data[at : at + _LEAST_MATCH]
        slot = (int.from_bytes(word, "little") << 16) * 0x9E3779B97F4A7C15 % (1 << 64) >> 52
        before = seen.get(slot, 0)
        seen[slot] = at
        if data[before : before + _LEAST_MATCH] != word:
            literals[data[at]] += 1
            at += 1
            continue
        bits += _MATCH_BITS + (at - before).bit_length() - 1
        length = _LEAST_MATCH
        while at + length < size and data[before + length] == data[at + length]:
            length += 1
        at += length
    literals.update(data[at:])
    binary = sum(is_binary(value) for value in data) / size
    return _bits(Counter(data)) / size, (_bits(literals) + bits) / size, binary


def is_binary(value: int) -> bool:
    """Whether no UTF-8 text has this byte; line ends, form feed and escape are text."""
    return (
        value < 9 or (13 < value < 32 and value != 27) or value in (127, 0xC0, 0xC1) or value > 0xF4
    )


def _bits(counts: Counter[int]) -> float:
    total = counts.total()
    return sum(count * math.log2(total / count) for count in counts.values())
