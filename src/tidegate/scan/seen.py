"""Bytes at hand with what their windows measure, and what a scan's streams have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from tidegate.scan import unwrap_text
from tidegate.scan.calibration import WEIGHING, WINDOW, Calibration
from tidegate.scan.fingerprint import Matcher
from tidegate.scan.sighting import Sighting
from tidegate.scan.windows import Array, Measures, stands_out

Flags = np.ndarray[Any, np.dtype[np.bool_]]

_DULL_GAIN, _DULL_COST = 0.06, 2.8
"""Text that gains as little and costs as much is asked whether it stands for something else."""
_DULL_BASE64: Final = 4.9
_EVEN_DIGITS: Final = 3.25
"""Bits a digit of numbers that are as good as random; log2 10 is 3.32."""
_FEWEST_LETTERS: Final = 0.05
"""Share of a to f in what is taken for hex: 0.375 where bytes are even, 0.2 in bfloat16 weights."""


_LETTERS: Final = b"abcdefABCDEF"


@dataclass(frozen=True, slots=True)
class Limits:
    """How far wrappings are followed: layers, unpacked bytes a packed one, unpacked in all."""

    depth: int = 6
    ratio: int = 300
    unpacked: int = 1 << 32


@dataclass(slots=True)
class Shared:
    """What all streams of one scan have in common; `told` is what they have seen so far."""

    calibration: Calibration
    limits: Limits
    matcher: Matcher | None
    unpacked: int = 0
    told: list[Sighting] = field(default_factory=list)


class Held:
    """Bytes of a stream that wait to be looked at; large pieces are not copied."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        """More of the stream."""
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def take(self) -> bytes:
        """All of them, in one piece; none wait any longer."""
        taken = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self.size = [], 0
        return taken


class Seen(NamedTuple):
    """Bytes at hand and what their windows measure: `loud_W` look like weights, `dull_W` are text
    that may stand for something else."""

    data: bytes
    window: int
    measures: Measures
    beyond_W: Array
    loud_W: Flags
    dull_W: Flags

    @property
    def whole(self) -> int:
        return len(self.beyond_W) * self.window


def settled(measures: Measures, line: float) -> bool:
    """Whether no window is loud or dull, as nearly all text is: a fast answer, true only if so."""
    return not stands_out(measures, WEIGHING, line, _DULL_GAIN, _DULL_COST)


def is_dull(measures: Measures) -> Flags:
    """Which windows, loud or not, are worth decoding should they be of one alphabet."""
    return np.asarray((measures.gain_W < _DULL_GAIN) & (measures.cost_W > _DULL_COST))


def may_stand_for(layer: str, text: bytes, cost: float) -> bool:
    """Whether dull text is worth decoding: harmless text is of each alphabet now and then.

    Codes and numbers in a row are hex without letters, but some digits are commoner than others.
    """
    if layer == unwrap_text.BASE64:
        return cost > _DULL_BASE64
    if layer == unwrap_text.HEX and cost < _EVEN_DIGITS:
        letters = len(text) - len(text.translate(None, _LETTERS))
        return letters >= _FEWEST_LETTERS * len(text)
    return layer in (unwrap_text.HEX, unwrap_text.DECIMAL)


def stretches(flag_W: Flags) -> list[tuple[int, int]]:
    """First and past-last window of each run of set flags."""
    if not flag_W.any():
        return []
    edge_E = np.flatnonzero(np.diff(np.r_[False, flag_W, False]))
    return list(zip(edge_E[::2].tolist(), edge_E[1::2].tolist(), strict=True))


def leftmost(data: bytes, start: int) -> int:
    """Where a run of one alphabet that reaches into a stretch began, a window back at most."""
    layer = unwrap_text.alphabet_of(data[start : start + WINDOW])
    if layer is None or layer == unwrap_text.DECIMAL:
        return start
    before = data[max(0, start - WINDOW) : start]
    return start - len(before) + len(before.rstrip(unwrap_text.ALPHABETS[layer] + b"\r\n"))
