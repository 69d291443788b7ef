"""Laws that leaks obey whatever is measured, to hold measurements against.

Entropies are in bits, margins and temperatures in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tidegate.verify.scores_normal import ndtr
from tidegate.verify.scores_rows import F64Array

_SUMMED = 8.0
_TERMS = 40
"""Times the mean of |A|: what lies beyond is below e^-40."""
_GRID = 20_001


def binary_entropy(share: float) -> float:
    """h(ε) in bits: what it costs to say which of many tokens are the ε that deviate."""
    if share <= 0.0 or share >= 1.0:
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def position_bits(*shares: float) -> float:
    """Bits a token for saying where each kind of deviation is: the entropy of their shares.

    With one kind it is `binary_entropy`. As the shares are allowances, they count in full: below
    their maximum entropy more of them is more room, above it the room stays at its maximum.
    """
    kinds = [share for share in shares if share > 0.0]
    total = math.fsum(kinds)
    if not kinds:
        return 0.0
    most = len(kinds) / (len(kinds) + 1)
    if total >= most:
        return math.log2(len(kinds) + 1)
    parts = [*kinds, 1.0 - total]
    return -math.fsum(part * math.log2(part) for part in parts)


def admissible_bits_bound(margin: float, temperature: float) -> float:
    """E log2 |A| for a seed that the sender cannot choose, at most, whatever the prompt.

    A holds the tokens within `margin` of the best of score + noise. Noise is a race of exponential
    arrivals: the k-th comes within a factor e^(margin/T) of the first with probability at most
    (1 - e^(-margin/T))^(k-1), with equality when no single token has any weight. So |A| is at most
    geometric with mean e^(margin/T), and E log2 |A| <= Σ_{k>=2} (1 - e^(-margin/T))^(k-1)
    log2(k / (k-1)). A prompt that asks for random strings reaches this and cannot exceed it. Far
    out the logarithm of the mean, margin / (T ln 2), stands in. At T = 0 there is no bound.
    """
    if margin <= 0.0:
        return 0.0
    if temperature <= 0.0:
        return math.inf
    nats = margin / temperature
    if nats > _SUMMED:
        return nats / math.log(2)
    within = -math.expm1(-nats)
    k_K = np.arange(2, 2 + math.ceil(_TERMS * math.exp(nats)))
    steps_K = np.log1p(1 / (k_K - 1)) / math.log(2)
    return float((np.exp((k_K - 1) * math.log(within)) * steps_K).sum())


def normal_floor() -> float:
    """Bits that hide per honest mismatch when logit noise is normal: about 3.27.

    Gaps between the best two sums spread evenly near a tie, so a token whose gap is x standard
    deviations flips with probability Φ(-x). A sender who flips exactly that often cannot be told
    from noise by any test, and says ∫h(Φ(-x))dx / ∫Φ(-x)dx bits a flip.
    """
    return _floor(lambda x_N: ndtr(-x_N), 12.0)


def laplace_floor() -> float:
    """The same where the noise between two logits has exponential tails: about 3.68. Heavier tails,
    such as a mixture of quiet and loud positions, hide more."""
    return _floor(lambda x_N: np.exp(-x_N) / 2, 60.0)


def mismatch_floor(mismatch: float, bits_per_mismatch: float | None = None) -> float:
    """Bits a token that no test finds, from the honest mismatch rate; by default normal tails."""
    each = normal_floor() if bits_per_mismatch is None else bits_per_mismatch
    return mismatch * each


def _floor(flip: Callable[[F64Array], F64Array], reach: float) -> float:
    x_N = np.linspace(0.0, reach, _GRID)
    q_N = np.clip(flip(x_N), 1e-300, 1 - 1e-16)
    h_N = -(q_N * np.log2(q_N) + (1 - q_N) * np.log1p(-q_N) / math.log(2))
    return float(np.trapezoid(h_N, x_N) / np.trapezoid(q_N, x_N))


def mean_admissible_bits(density: float, margin: float) -> float:
    """log2 |A| a token for small margins: P(the second best is within the margin), one bit each.

    `density`: how many honest tokens have their second best within a nat, per nat, near 0.
    """
    return density * margin


def mismatch_rate(density: float, sigma: float) -> float:
    """Honest mismatches for normal noise of `sigma` on each logit: density · σ / √π."""
    return density * sigma / math.sqrt(math.pi)


def flagged_rate(density: float, sigma: float, margin: float) -> float:
    """Honest tokens beyond the margin: density · s (φ(x) - x Φ(-x)) with s = √2 σ, x = margin/s."""
    s = math.sqrt(2) * sigma
    x = margin / s
    beyond = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return density * s * (beyond - x * math.erfc(x / math.sqrt(2)) / 2)
