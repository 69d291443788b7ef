"""What the weak model and the shared noise say before the strong model's token is known."""

from __future__ import annotations

import numpy as np

from tidegate._native._kernels import lib
from tidegate.sampling.gumbel import F32Array, Noise, Ranking

Candidates = Ranking
"""Opaque to everybody but the coder: the same value on both sides, or the tokens differ."""

CANDIDATES: int = lib.TG_CANDIDATES
"""How many tokens are ranked; any other is sent as a bare number."""


def candidates(
    scores_V: F32Array,
    temperature: float,
    seed: bytes,
    position: int,
    noise: Noise | None = None,
) -> Candidates:
    """Rank the tokens by weak scores plus the noise the strong model's token is drawn with.

    scores: float32 [V], the weak model's logits after bias, penalties and temperature, but before
    any filter. At temperature 0 there is no noise. `noise` is the same position's noise where it
    has been drawn already.
    """
    if noise is None:
        vocab_size = scores_V.shape[0]
        noise = Noise(vocab_size) if temperature == 0 else Noise(vocab_size, seed, position)
    return noise.rank(scores_V, CANDIDATES)


def no_candidates(greedy: bool = False) -> Candidates:
    """Nothing is known: every token is sent as a bare number. Exact on every machine."""
    empty = np.empty(0, np.int32)
    return Candidates(empty, empty, empty, greedy)
