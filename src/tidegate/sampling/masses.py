"""Probabilities as integers, so that sums do not depend on their order nor on the machine.

A score's mass is `floor(exp(score - best) * 2**42)`. The exponential uses only float32 operations
that IEEE 754 rounds correctly (add, multiply, round to integer), one ufunc at a time, so no fused
multiply-add and no vendor library can change a bit of it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import EngineError

F32Array = NDArray[np.float32]
I64Array = NDArray[np.int64]

MASS_BITS = 42
"""The best score has mass 2**MASS_BITS, so up to 2**21 scores sum without overflow in int64. What
is rounded to nothing adds up to less than 2**-24 (a float32 rounding) for up to 2**18 scores."""

REACH = np.float32(30.0)
"""Nats below the best from which every mass is zero: exp(-30) < 2**-43."""

BLOCK = 1 << 14
"""Temporaries of this many numbers stay in the cache and in the allocator's hands."""

LOG2_E = np.float32(1.44269504)
# ln 2 in two parts; the first has 9 bits, so its product with a small integer is exact.
LN2_HIGH = np.float32(355 / 512)
LN2_LOW = np.float32(math.log(2) - 355 / 512)
EXP_TERMS = tuple(np.float32(1 / math.factorial(n)) for n in (7, 6, 5, 4, 3, 2, 1, 0))


def best_score(scores_V: F32Array) -> np.float32:
    """The largest score; raises EngineError if there is none (NaN, infinity, or all masked)."""
    best: np.float32 = scores_V.max()
    if not np.isfinite(best):
        raise EngineError("the logits have no finite maximum; the model's output is unusable")
    return best


def block_sums(scores_V: F32Array, best: np.float32) -> list[int]:
    """Sums of the masses of each BLOCK of scores, in order; nothing of size V is allocated."""
    return [
        int(integer_masses(scores_V[start : start + BLOCK] - best).sum())
        for start in range(0, scores_V.size, BLOCK)
    ]


def integer_masses(gaps_N: F32Array) -> I64Array:
    """Masses of scores given as `score - best` (<= 0; -inf has mass 0), in units of 2**-42.

    Relative error below 3e-7 before the floor; a gap of 0 has mass 2**42 exactly.
    """
    gaps_N = np.maximum(gaps_N, -REACH)
    halvings_N = np.rint(gaps_N * LOG2_E)
    rest_N = gaps_N - halvings_N * LN2_HIGH
    rest_N -= halvings_N * LN2_LOW
    power_N = np.full_like(rest_N, EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        power_N *= rest_N
        power_N += term
    # exp(rest) lies in (0.7, 1.42), so 24 fraction bits hold it exactly.
    power_N *= np.float32(2**24)
    masses_N: I64Array = power_N.astype(np.int64)
    masses_N <<= MASS_BITS - 24
    masses_N >>= (-halvings_N).astype(np.int64)
    return masses_N
