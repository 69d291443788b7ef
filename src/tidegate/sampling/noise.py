"""Gumbel noise from a seed, a position and a token id, in integers: the definition.

This is the reference the C kernels are held to, and what another implementation should read beside
`spec/noise.md`. It is exact and slow; `tidegate.sampling.gumbel` is what runs.

The noise of all tokens is independent and Gumbel distributed, yet it is laid out so that the large
values are found without drawing the small ones. A Gumbel variable is -ln of an exponential arrival
time (Maddison, Tarlow & Minka, "A* Sampling", NeurIPS 2014). In a block of 64 ids the first arrival
comes at rate 64, lands on each id alike, and, arrivals having no memory, every other id follows it
after an exponential time of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from tidegate._native.tables import LN2_Q32, LOG_BITS, log2_table

BLOCK = 64
SCORE_BITS = 20
"""Noise and scores are integers in units of 2**-20 nat."""

SCORE_LIMIT = 2.0**20
"""Nats. Scores beyond it are counted from the best one; what lies that far below it is cut."""

_TIME_BITS = 58
_TOKEN_COUNTERS = 1 << 31
_MASK32 = (1 << 32) - 1
_MASK64 = (1 << 64) - 1


@cache
def _log2_table() -> tuple[int, ...]:
    return tuple(log2_table())


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10 (Salmon et al., SC 2011): four 32-bit words from four and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK32, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK32
        k0, k1 = (k0 + 0x9E3779B9) & _MASK32, (k1 + 0xBB67AE85) & _MASK32
    return c0, c1, c2, c3


def ilog2(x: int) -> int:
    """log2(x) in units of 2**-32, for 1 <= x < 2**64; linear between 4,097 exact points."""
    n = x.bit_length() - 1
    mantissa = x << (63 - n)
    index = (mantissa >> (63 - LOG_BITS)) & ((1 << LOG_BITS) - 1)
    rest = (mantissa >> (31 - LOG_BITS)) & _MASK32
    low, high = _log2_table()[index : index + 2]
    return (n << 32) + low + ((high - low) * rest >> 32)


def exponential(v: int) -> int:
    """-ln(1 - v / 2**64) in units of 2**-58: a unit-rate exponential time from a 64-bit draw."""
    if v < 1 << 58:
        v2 = v * v >> 64
        v3 = v2 * v >> 64
        v4 = v3 * v >> 64
        return (v + v2 // 2 + v3 // 3 + v4 // 4) >> (64 - _TIME_BITS)
    survive = (v ^ _MASK64) or 1
    return ((64 << 32) - ilog2(survive)) * LN2_Q32 >> (64 - _TIME_BITS)


def _draw(seed: bytes, position: int, counter: int, half: int) -> int:
    words = [int.from_bytes(seed[i : i + 4], "little") for i in range(0, 16, 4)]
    out = philox((counter, position, words[2], words[3]), (words[0], words[1]))
    return out[2 * half + 1] << 32 | out[2 * half]


def gumbel(seed: bytes, position: int, token: int) -> int:
    """The noise of one token in units of 2**-20 nat; the first 16 bytes of `seed` count."""
    block = token // BLOCK
    draw = _draw(seed, position, block >> 1, block & 1)
    time = exponential(draw | (BLOCK - 1)) // BLOCK
    if token % BLOCK != draw % BLOCK:
        time += exponential(_draw(seed, position, _TOKEN_COUNTERS | token >> 1, token & 1))
    return ((_TIME_BITS << 32) - ilog2(time or 1)) * LN2_Q32 >> (64 - SCORE_BITS)


def score_units(scores: Sequence[float], grain: int = 0) -> list[int | None]:
    """Scores in units of 2**-20 nat, rounded (half to even) to multiples of 2**grain.

    None stands for a masked score, -inf.

    Raises ValueError for a NaN, an infinity, or when all are masked.
    """
    top = max(scores, default=-math.inf)
    if any(math.isnan(score) for score in scores) or not math.isfinite(top):
        raise ValueError("no finite best score")
    origin = top if abs(top) > SCORE_LIMIT else 0.0
    unit = 2.0 ** (SCORE_BITS - grain)
    return [
        None if score == -math.inf else round(max(score - origin, -SCORE_LIMIT) * unit) << grain
        for score in scores
    ]


def rank(
    scores: Sequence[float], seed: bytes | None, position: int, wanted: int, grain: int = 0
) -> list[tuple[int, int, int]]:
    """The `wanted` best of score + noise as (id, gap, fall), best first, ties to the lower id.

    gap: how far below the best sum; fall: how far the bare score lies below the best bare score of
    those listed; both at most 2**31 - 1. Without a seed there is no noise. Raises as `score_units`.
    """
    entries = []
    for token, score in enumerate(score_units(scores, grain)):
        if score is not None:
            total = score if seed is None else score + gumbel(seed, position, token)
            entries.append((-total, token, score))
    entries = sorted(entries)[:wanted]
    best, highest = -entries[0][0], max(score for _, _, score in entries)
    most = (1 << 31) - 1
    return [
        (token, min(best + minus, most), min(highest - score, most))
        for minus, token, score in entries
    ]


def sample(scores: Sequence[float], seed: bytes | None, position: int) -> int:
    """argmax(score + noise), the lower id in a tie; of the score alone without a seed."""
    return rank(scores, seed, position, 1)[0][0]
