"""Inverse-transform sampling: one uniform integer walks down the cumulative distribution.

Gumbel-max (`sampling.gumbel`) is what the link uses, since the weak model can predict its outcome.
This sampler serves engines that draw one number a token; its likelihood is IPT-LS.
"""

from __future__ import annotations

import numpy as np

from tidegate.errors import ConfigError
from tidegate.sampling.masses import BLOCK, F32Array, best_score, block_sums, integer_masses

UNIFORM_BITS = 64


def invert(scores_V: F32Array, uniform: int) -> int:
    """The token whose share of the cumulative distribution, in order of ids, holds `uniform`.

    scores_V: float32, natural-log scale, -inf for tokens that were filtered out.
    uniform: an integer in [0, 2**64); uniform integers draw token i with probability
    `mass_i / sum(mass)` to within 2**-64.

    Raises ConfigError for a uniform out of range, EngineError for scores without a finite maximum.
    """
    if not 0 <= uniform < 1 << UNIFORM_BITS:
        raise ConfigError("a uniform draw is an integer in [0, 2**64)")
    best = best_score(scores_V)
    sums = block_sums(scores_V, best)
    target = (uniform * sum(sums)) >> UNIFORM_BITS
    start = 0
    for mass in sums:
        if target < mass:
            break
        target -= mass
        start += BLOCK
    cumulative_N = np.cumsum(integer_masses(scores_V[start : start + BLOCK] - best))
    return start + int(np.searchsorted(cumulative_N, target, side="right"))
