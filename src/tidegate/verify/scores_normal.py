"""The logarithm of the normal distribution function, for arrays."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.polynomial import Chebyshev

from tidegate.verify.scores_rows import F64Array

_DEGREE = 32
_FAR = 20.0


def _scaled_erfc(y: float) -> float:
    """exp(y**2) * erfc(y) for y >= 0; the asymptotic series where erfc itself gets small."""
    if y < _FAR:
        return math.exp(y * y) * math.erfc(y)
    term = total = 1.0
    for n in range(1, 8):
        term *= -(2 * n - 1) / (2 * y * y)
        total += term
    return total / (y * math.sqrt(math.pi))


@cache
def _series() -> Chebyshev:
    """exp(y**2) * erfc(y) / t as a polynomial in t = 2 / (2 + y), smooth on all of (0, 1]."""

    def value(t: float) -> float:
        return 1 / (2 * math.sqrt(math.pi)) if t < 1e-9 else _scaled_erfc(2 / t - 2) / t

    return Chebyshev.interpolate(np.vectorize(value), _DEGREE, domain=[0.0, 1.0])


def log_ndtr(z_N: F64Array) -> F64Array:
    """ln Φ(z), absolute error below 1e-12 for z >= 0 and relative error below 1e-12 elsewhere.

    Shape as given; -inf gives -inf, inf gives 0.
    """
    z_N = np.asarray(z_N, np.float64)
    y_N = np.abs(z_N) / math.sqrt(2)
    t_N = 2 / (2 + y_N)
    half_N = _series()(t_N) * t_N / 2
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        low_N = np.where(np.isinf(y_N), -np.inf, np.log(half_N) - y_N * y_N)
        high_N = np.log1p(-half_N * np.exp(-y_N * y_N))
    result_N: F64Array = np.where(z_N < 0, low_N, np.where(np.isinf(y_N), 0.0, high_N))
    return result_N


def ndtr(z_N: F64Array) -> F64Array:
    """Φ(z)."""
    phi_N: F64Array = np.exp(log_ndtr(z_N))
    return phi_N
