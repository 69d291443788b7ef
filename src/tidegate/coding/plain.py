"""Plain arithmetic coding with the weak model's distribution: the peer without shared noise.

It costs the cross-entropy of the strong model's tokens under the weak model, the least that this
distribution allows to whoever has not the seed. Benchmarks hold the link's coder against it, so it
is built with the same care: frequencies of 28 bits lose less than 0.001 bit a token, the range
coder less still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tidegate.coding.range_coder import RangeDecoder, RangeEncoder
from tidegate.sampling.masses import MASS_BITS, best_score, integer_masses

F32Array = NDArray[np.float32]
F64Array = NDArray[np.float64]
I64Array = NDArray[np.int64]

PRECISION = 28
"""Frequencies sum to 2**PRECISION."""

_COARSE_BITS = 34  # of a mass, so that its product with 2**28 fits int64


def frequencies(scores_V: F32Array, temperature: float, precision: int = PRECISION) -> I64Array:
    """softmax(scores / temperature) as integers [V], each at least 1, summing to 2**precision.

    scores: float32 [V] in nats, -inf allowed. The same integers on every machine that computes
    IEEE 754 float32. Raises EngineError for scores without a finite maximum, ValueError for a
    temperature that is not positive or a precision that cannot hold V tokens.
    """
    free = (1 << precision) - scores_V.size
    if not temperature > 0 or free < 0 or precision > PRECISION:
        raise ValueError(f"temperature {temperature}, {precision} bits, {scores_V.size} tokens")
    gaps_V = (scores_V - best_score(scores_V)) / np.float32(temperature)
    masses_V = integer_masses(gaps_V) >> (MASS_BITS - _COARSE_BITS)
    frequencies_V: I64Array = 1 + masses_V * free // masses_V.sum()
    frequencies_V[np.argmax(masses_V)] += (1 << precision) - frequencies_V.sum()
    return frequencies_V


def encode(frequencies_TV: Iterable[I64Array], tokens: Sequence[int]) -> bytes:
    """The shortest byte string for `tokens`, one row of frequencies each."""
    coder = RangeEncoder()
    for frequencies_V, token in zip(frequencies_TV, tokens, strict=True):
        start = int(frequencies_V[:token].sum())
        coder.put(start, int(frequencies_V[token]), int(frequencies_V.sum()))
    coder.finish()
    return coder.take(coder.settled())


def decode(frequencies_TV: Iterable[I64Array], data: bytes) -> Iterator[int]:
    """The tokens, one for each row of frequencies; a row may depend on the tokens before it.

    Stops early where the bytes do not determine the next token.
    """
    coder = RangeDecoder()
    coder.feed(data)
    for frequencies_V in frequencies_TV:
        ends_V = np.cumsum(frequencies_V)
        total = int(ends_V[-1])
        first, last = coder.slots(total)
        token, latest = np.searchsorted(ends_V, (first, last), side="right").tolist()
        if token != latest:
            return
        count = int(frequencies_V[token])
        coder.narrow(int(ends_V[token]) - count, count, total)
        yield token


def ideal_bits(
    scores_TV: F32Array, tokens: Sequence[int], temperatures: Sequence[float]
) -> F64Array:
    """-log2 softmax(scores / temperature)[token] for each row: float64 [T], infinite where masked.

    scores: float32 [T, V] in nats; tokens and temperatures: one for each row, temperatures > 0.
    """
    sharp_TV = scores_TV.astype(np.float64) / np.asarray(temperatures, np.float64)[:, None]
    sharp_TV -= sharp_TV.max(axis=1, keepdims=True)
    log_sums_T = np.log(np.exp(sharp_TV).sum(axis=1))
    chosen_T = sharp_TV[np.arange(len(tokens)), np.asarray(tokens)]
    bits_T: F64Array = (log_sums_T - chosen_T) / np.log(2)
    return bits_T
