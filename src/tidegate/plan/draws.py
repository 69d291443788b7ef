"""Random draws that any machine repeats: each value's own stream, each lifetime its own place.

Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) is a function
of a key and a counter. The key is a hash of seed and name; lifetimes 4k to 4k + 3 have counter
k + 1. So lifetime 7 of two scenarios draws alike what they share, and a difference between them is
the scenarios', not luck. Only raw 64-bit words are taken from numpy: the algorithm fixes them.
"""

from __future__ import annotations

import hashlib

import numpy as np

from tidegate.plan.growth import F64Array
from tidegate.plan.scenario import Quantity

_WORDS = 4
"""64-bit words of one counter."""
_EXACT = 60.0
"""Mean of a count above which it is drawn as a rounded normal."""


def uniform(seed: int, name: str, first: int, count: int) -> F64Array:
    """Draws `first` to `first + count - 1` of one stream: float64 [count], above 0, below 1.

    `first` is a multiple of 4. Raises ValueError where it is not.
    """
    if first % _WORDS:
        raise ValueError("a block of draws begins at a multiple of 4")
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
    # Counter-based, as `tidegate.sampling` asks for; its own noise is Gumbel's, a token at a time.
    stream = np.random.Philox(  # noqa: TID251  raw words of a counter-based generator
        key=int.from_bytes(digest, "little"), counter=first // _WORDS
    )
    words = stream.random_raw(count)
    u_N: F64Array = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return u_N


def quantile(quantity: Quantity, u_N: F64Array) -> F64Array:
    """The value that lies above a share `u_N` of what the quantity may be: float64 [N].

    Half lies below `value`, half above; within each half every factor is equally likely, or every
    difference where an end is 0.
    """
    low, mid, high = quantity.low, quantity.value, quantity.high
    if low == high:
        return np.full_like(u_N, mid)
    side_N = 2 * u_N - 1
    if low > 0:
        drawn_N = mid * np.exp(side_N * np.where(side_N < 0, *np.log([mid / low, high / mid])))
    else:
        drawn_N = mid + side_N * np.where(side_N < 0, mid - low, high - mid)
    inside_N: F64Array = np.clip(drawn_N, low, high)
    return inside_N


def counts(mean_N: F64Array, u_N: F64Array) -> F64Array:
    """Poisson counts by inversion: the least k that at least `u_N` of the law lies at or below.

    Large means are drawn as a rounded normal. float64 [N]; a mean of inf gives inf.
    """
    large_N = mean_N > _EXACT
    result_N = np.zeros_like(mean_N)
    small_N = np.where(large_N, 0.0, mean_N)
    term_N = np.exp(-small_N)
    below_N = term_N.copy()
    left_N = u_N > below_N
    k = 0
    while left_N.any() and k < 4 * _EXACT:
        k += 1
        term_N = term_N * small_N / k
        result_N[left_N] = k
        below_N = below_N + term_N
        left_N = left_N & (u_N > below_N)
    if large_N.any():
        mean_K = mean_N[large_N]
        shifted_K = mean_K + np.sqrt(mean_K) * _normal(u_N[large_N])
        result_N[large_N] = np.maximum(np.round(shifted_K), 0.0)
    return result_N


def _normal(u_N: F64Array) -> F64Array:
    """The standard normal's quantile within 4.5e-4 (Abramowitz & Stegun, 26.2.23)."""
    tail_N = np.minimum(u_N, 1 - u_N)
    t_N = np.sqrt(-2 * np.log(tail_N))
    top_N = 2.515517 + t_N * (0.802853 + t_N * 0.010328)
    bottom_N = 1 + t_N * (1.432788 + t_N * (0.189269 + t_N * 0.001308))
    size_N = t_N - top_N / bottom_N
    signed_N: F64Array = np.where(u_N < 0.5, -size_N, size_N)
    return signed_N
