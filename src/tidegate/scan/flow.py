"""Bytes that left against bytes that the billed tokens explain. Pure.

What leaves an API grows and shrinks with its users, so neither the bytes nor their ratio to what
came in says much. But every answer is billed: its tokens and its events have a size, and what is
left over once they are subtracted, the residual, does not care how many users there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ConfigError

F64Array = NDArray[np.float64]

UNITS: Final = ("answers", "completion_tokens", "events")
"""What is billed and may explain bytes; `Bin.billed` is in this order. An answer that is streamed
brings an envelope with each event, one that is sent whole is one event."""

_PASSES = 4
"""Of fitting rates and weights in turn; they settle after two or three."""
_LEAST_BINS = 8
"""Calibration bins for each number that is fitted; fewer say nothing of the spread."""
_LEAST_SPREAD = 1.0
"""Bytes; a link that carries nothing in calibration has no spread to divide by."""


class Bin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One interval. `start`: Unix seconds. `sent`: bytes that left, headers included. `billed`: how
    much of each of `UNITS`."""

    start: float
    sent: float
    billed: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ConfigError for amounts that are negative or not finite."""
        amounts = (self.sent, *self.billed)
        if len(self.billed) != len(UNITS):
            raise ConfigError(f"a bin bills {', '.join(UNITS)}, and nothing else")
        if not all(math.isfinite(amount) and amount >= 0 for amount in amounts):
            raise ConfigError("a bin's amounts are finite and not negative", start=self.start)


class Predictor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What bins are expected to hold, fitted on bins that are known to be honest.

    `idle`: bytes of a bin in which nothing is billed. `rates`: bytes for each of `UNITS`. The
    variance of a bin predicted to hold p bytes is `floor + per_byte·p + share·p²`: noise that is
    always there, answers that differ, and users who drift. `correlation`: of neighbouring
    residuals in calibration, which the false-alarm rate of a CUSUM takes to be none.
    """

    idle: float
    rates: tuple[float, ...]
    floor: float
    per_byte: float
    share: float
    correlation: float
    bins: int

    def predicted(self, observed: Bin) -> float:
        """Bytes that the bin's bill explains."""
        return self.idle + math.fsum(
            rate * amount for rate, amount in zip(self.rates, observed.billed, strict=True)
        )

    def spread(self, observed: Bin) -> float:
        """Standard deviation of the bin's residual, in bytes; never 0."""
        size = self.predicted(observed)
        variance = self.floor + self.per_byte * size + self.share * size**2
        return max(math.sqrt(variance), _LEAST_SPREAD)

    def residual(self, observed: Bin) -> float:
        """Bytes beyond what was predicted; negative where fewer left."""
        return observed.sent - self.predicted(observed)

    def score(self, observed: Bin) -> float:
        """The residual in standard deviations: mean 0 and variance 1 while all is honest."""
        return self.residual(observed) / self.spread(observed)


def fit(bins: Sequence[Bin]) -> Predictor:
    """The predictor of calibration bins, by least squares with rates that are not negative.

    Raises ConfigError where there are too few bins, or none in which anything was billed.
    """
    needed = _LEAST_BINS * (len(UNITS) + 1)
    if len(bins) < needed:
        raise ConfigError(
            f"{len(bins)} bins are too few to calibrate on: gather {needed}, or take shorter ones"
        )
    sent_N = np.array([one.sent for one in bins])
    billed_NU = np.array([one.billed for one in bins], dtype=np.float64)
    if not billed_NU.any():
        raise ConfigError("nothing was billed in calibration, so nothing explains bytes")
    terms_NU = np.column_stack([np.ones(len(bins)), billed_NU])
    weight_N = np.ones(len(bins))
    for _ in range(_PASSES):
        rates_U = _least_squares(terms_NU * weight_N[:, None], sent_N * weight_N)
        size_N = terms_NU @ rates_U
        residual_N = sent_N - size_N
        sizes_N3 = np.column_stack([np.ones(len(bins)), size_N, size_N**2])
        spread_3 = _spread(sizes_N3, residual_N)
        weight_N = 1 / np.sqrt(np.maximum(sizes_N3 @ spread_3, _LEAST_SPREAD**2))
    score_N = residual_N * weight_N
    return Predictor(
        idle=float(rates_U[0]),
        rates=tuple(rates_U[1:].tolist()),
        floor=float(spread_3[0]),
        per_byte=float(spread_3[1]),
        share=float(spread_3[2]),
        correlation=correlation(score_N.tolist()),
        bins=len(bins),
    )


def correlation(scores: Sequence[float]) -> float:
    """Of each score with the next one; 0 where they do not vary."""
    centred_N = np.array(scores) - np.mean(scores)
    power = float(centred_N @ centred_N)
    return float(centred_N[1:] @ centred_N[:-1]) / power if power > 0 else 0.0


def _spread(sizes_N3: F64Array, residual_N: F64Array) -> F64Array:
    """[3] what the squared residuals grow with: weighed by size, so that busy bins do not rule."""
    scale_N = 1 / np.maximum(sizes_N3[:, 1], _LEAST_SPREAD)
    lost = len(UNITS) + 1  # degrees of freedom that the rates took
    inflated_N = residual_N**2 * (len(residual_N) / (len(residual_N) - lost))
    return _least_squares(sizes_N3 * scale_N[:, None], inflated_N * scale_N)


def _least_squares(terms_NU: F64Array, target_N: F64Array) -> F64Array:
    """[U] least squares under coefficients ≥ 0, by trying every set that may be positive.

    The few terms here make that the simplest exact way; the optimum's own set is among them.
    """
    scale_U = np.linalg.norm(terms_NU, axis=0)
    usable = [column for column in range(terms_NU.shape[1]) if scale_U[column] > 0]
    best, least = np.zeros(terms_NU.shape[1]), float(target_N @ target_N)
    for count in range(1, len(usable) + 1):
        for chosen in map(list, combinations(usable, count)):
            scaled_NC = terms_NU[:, chosen] / scale_U[chosen]
            found_C = np.linalg.lstsq(scaled_NC, target_N, rcond=None)[0]
            if bool((found_C < 0).any()):
                continue
            left_N = target_N - scaled_NC @ found_C
            error = float(left_N @ left_N)
            if error < least * (1 - 1e-12):
                best, least = np.zeros(terms_NU.shape[1]), error
                best[chosen] = found_C / scale_U[chosen]
    return best
