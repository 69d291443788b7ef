"""Bits that leave when traffic grows under a ceiling: their sum, and the day a sum is reached.

The rate on day t is min(ceiling, first · e^(g·t)). Both functions are closed forms, work on arrays
(shape suffix N, broadcast together) and take inf for "no ceiling" and "never".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64Array = NDArray[np.float64]

_STILL = 1e-12
"""Growth a day below which it is none: over a century it changes nothing that is shown."""
_HALVINGS = 60


def total(days_N: F64Array, first_N: F64Array, ceiling_N: F64Array, g_N: F64Array) -> F64Array:
    """Bits sent until day `days_N`.

    Args:
        days_N: from today, >= 0.
        first_N: bits a day today, without the ceiling; > 0 or 0.
        ceiling_N: bits a day at most, inf for none.
        g_N: growth a day, ln(factor a year) / 365.
    """
    if np.isinf(ceiling_N).all():
        freely_N: F64Array = first_N * _stretched(days_N, g_N)
        return freely_N
    meets_N = _meets(first_N, ceiling_N, g_N)
    # Growing traffic is under the ceiling first, shrinking traffic last.
    free_N = np.where(g_N > -_STILL, np.minimum(days_N, meets_N), np.maximum(days_N - meets_N, 0.0))
    begin_N = np.where(g_N > -_STILL, first_N, np.minimum(first_N, ceiling_N))
    with np.errstate(invalid="ignore"):
        held_N = np.where(days_N > free_N, ceiling_N * (days_N - free_N), 0.0)
    return begin_N * _stretched(free_N, g_N) + held_N


def days(bits_N: F64Array, first_N: F64Array, ceiling_N: F64Array, g_N: F64Array) -> F64Array:
    """The day on which `bits_N` were sent: what `total` is undone by; inf where that never is."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if np.isinf(ceiling_N).all():
            return np.where(first_N > 0, _undone(bits_N, first_N, g_N), np.inf)
        meets_N = _meets(first_N, ceiling_N, g_N)
        at_N = np.where(np.isfinite(meets_N), meets_N, 0.0)
        free_N = np.where(np.isfinite(meets_N), first_N * _stretched(at_N, g_N), np.inf)
        told_N = np.where(
            bits_N <= free_N,
            _undone(bits_N, first_N, g_N),
            at_N + (bits_N - free_N) / ceiling_N,
        )
        shrinks_N = g_N <= -_STILL
        if shrinks_N.any():
            held_N = np.where(meets_N > 0, ceiling_N * meets_N, 0.0)
            after_N = meets_N + _undone(bits_N - held_N, np.minimum(first_N, ceiling_N), g_N)
            falling_N = np.where(bits_N <= held_N, bits_N / ceiling_N, after_N)
            told_N = np.where(shrinks_N, falling_N, told_N)
        return np.where((first_N > 0) & (ceiling_N > 0), told_N, np.inf)


def days_within(
    bits_N: F64Array, first_N: F64Array, ceiling_N: F64Array, g_N: F64Array, within_N: F64Array
) -> F64Array:
    """The first day on which `bits_N` were sent during the `within_N` days before it.

    Loot older than `within_N` is worthless. Only growing traffic can make a later window do what
    the first one cannot.
    """
    arrays = np.broadcast_arrays(bits_N, first_N, ceiling_N, g_N, within_N)
    bits_N, first_N, ceiling_N, g_N, within_N = (np.asarray(array) for array in arrays)
    took_N = days(bits_N, first_N, ceiling_N, g_N)
    late_N = took_N > within_N
    grows_N = late_N & (g_N > _STILL) & (ceiling_N * within_N >= bits_N) & (first_N > 0)
    result_N = np.where(late_N, np.inf, took_N)
    if not grows_N.any():
        return result_N
    bits_K, first_K = bits_N[grows_N], first_N[grows_N]
    ceiling_K, g_K, within_K = ceiling_N[grows_N], g_N[grows_N], within_N[grows_N]
    # Long before e^(g·t) has grown by e^60 any rate that can reach the target does.
    low_K, high_K = np.zeros_like(g_K), 60.0 / g_K
    for _ in range(_HALVINGS):
        middle_K = (low_K + high_K) / 2
        enough_K = total(within_K, first_K * np.exp(g_K * middle_K), ceiling_K, g_K) >= bits_K
        high_K = np.where(enough_K, middle_K, high_K)
        low_K = np.where(enough_K, low_K, middle_K)
    result_N[grows_N] = high_K + days(bits_K, first_K * np.exp(g_K * high_K), ceiling_K, g_K)
    return result_N


def _meets(first_N: F64Array, ceiling_N: F64Array, g_N: F64Array) -> F64Array:
    """The day on which free growth crosses the ceiling; 0 where it did, inf where it never does."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        crossing_N = np.log(ceiling_N / first_N) / g_N
    # Without growth the sign of the quotient's zero would decide.
    level_N = np.where(first_N < ceiling_N, np.inf, 0.0)
    return np.maximum(np.where(np.abs(g_N) < _STILL, level_N, crossing_N), 0.0)


def _stretched(days_N: F64Array, g_N: F64Array) -> F64Array:
    """∫ e^(g·t) dt."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.where(np.abs(g_N) < _STILL, days_N, np.expm1(g_N * days_N) / g_N)


def _undone(bits_N: F64Array, first_N: F64Array, g_N: F64Array) -> F64Array:
    """The day on which free growth from `first_N` adds up to `bits_N`; inf where it never does."""
    flat_N = bits_N / first_N
    grown_N = g_N * flat_N
    # log1p as log, which is several times as quick: the rounding of 1 + x cancels in the quotient
    # (Goldberg, ACM Computing Surveys 23, 1991, theorem 4). Its quotient of nothings is 1.
    more_N = np.maximum(1.0 + grown_N, 0.0)
    curve_N = np.log(more_N) / (more_N - 1.0)
    straight_N = np.where(more_N == 1.0, 1.0, curve_N)
    # Shrinking traffic that never comes to as much: the logarithm of 0 is what "never" is.
    return np.where(more_N > 0.0, flat_N * straight_N, np.inf)
