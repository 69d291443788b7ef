"""The draw of `sampling.gumbel` for many rows at once, in torch operations, on any device.

Every operation on what decides is on integers, or a float operation that IEEE 754 rounds correctly,
so a GPU draws the tokens that the C kernel draws. Noise is drawn only where it can win: the first
arrival of each block of 64 ids bounds the noise of all of them, the best of those ids is a token
that is certainly reached, and of 150,000 ids some hundred lie within the bound (`spec/noise.md`).

64-bit words are held in torch's signed integers: sums and products wrap to the same bits, and a
shift to the right is followed by a mask.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from torch import Tensor

from tidegate._native.tables import LN2_Q32, LOG_BITS, log2_table
from tidegate.errors import EngineError
from tidegate.sampling.noise import BLOCK, SCORE_BITS, SCORE_LIMIT

_MASK32: Final = (1 << 32) - 1
_TIME_BITS: Final = 58
_TOKEN_COUNTERS: Final = 1 << 31
_UNIT: Final = 2.0**SCORE_BITS
_LEAST: Final = -(1 << 62)
"""Below every sum, and far enough from the end that noise can be added."""
_LOWEST: Final = torch.finfo(torch.float32).min


def seed_words(seed: bytes) -> tuple[int, int, int, int]:
    """The four words of a seed that the noise uses."""
    w0, w1, w2, w3 = (int.from_bytes(seed[i : i + 4], "little") for i in range(0, 16, 4))
    return w0, w1, w2, w3


def sample_rows(
    scores_NV: Tensor, words_N4: Tensor, positions_N: Tensor, noisy_N: Tensor
) -> Tensor:
    """tokens_N (int64): for each row argmax(score + noise), the lowest id in a tie.

    scores: float32 in nats, -inf is masked. words: int64, `seed_words` of each row's seed.
    positions: int64. noisy: int64, 0 where a row is greedy and gets no noise, else 1.
    Equal, row by row, to `gumbel.Noise.sample`.

    Raises EngineError where a row has no finite best score, or holds a NaN.
    """
    vocab_size = scores_NV.shape[1]
    blocks = -(-vocab_size // BLOCK)
    padded_NV = torch.nn.functional.pad(
        scores_NV, (0, blocks * BLOCK - vocab_size), value=-torch.inf
    )
    scores_NBS = padded_NV.view(-1, blocks, BLOCK)
    top_N = scores_NBS.amax((1, 2))
    if not bool(torch.isfinite(top_N).all()):
        raise EngineError("the model's scores hold a NaN or an infinity, or all are masked")
    origin_N = torch.where(top_N.abs() > SCORE_LIMIT, top_N, 0.0).double()
    times_NB, firsts_NB = _first_arrivals(words_N4, positions_N, blocks)
    gumbels_NB = _gumbel_of_time(times_NB) * noisy_N[:, None]

    # 1. The best of those whose noise is known: nothing below it can win.
    first_scores_NB = scores_NBS.gather(2, firsts_NB[:, :, None])[:, :, 0]
    reached_NB = _units(first_scores_NB, origin_N[:, None]) + gumbels_NB
    reached_NB = torch.where(first_scores_NB == -torch.inf, _LEAST, reached_NB)
    least_N = reached_NB.amax(1)

    # 2. Who may reach it with his block's first arrival; the bound errs on the side of too many.
    bound_NB = (least_N[:, None] - gumbels_NB - 1).double() / _UNIT
    floor_NB = torch.where(bound_NB > -SCORE_LIMIT, bound_NB + origin_N[:, None], _LOWEST)
    floor_NB = torch.nextafter(floor_NB.float(), floor_NB.new_tensor(-torch.inf).float())
    able_NBS = scores_NBS >= floor_NB.clamp_min(_LOWEST)[:, :, None]
    rows_M, tokens_M = able_NBS.view(len(scores_NV), -1).nonzero(as_tuple=True)

    # 3. Their noise, and the best sum of each row.
    blocks_M = tokens_M >> 6
    counters_M = _TOKEN_COUNTERS | (tokens_M >> 1)
    draws_M = _draws(words_N4[rows_M], positions_N[rows_M], counters_M, tokens_M & 1)
    times_M = times_NB[rows_M, blocks_M]
    own_M = firsts_NB[rows_M, blocks_M] == tokens_M % BLOCK
    times_M = torch.where(own_M, times_M, times_M + _exponential(draws_M))
    sums_M = _units(padded_NV[rows_M, tokens_M], origin_N[rows_M])
    sums_M = sums_M + _gumbel_of_time(times_M) * noisy_N[rows_M]
    best_N = torch.full_like(least_N, _LEAST).scatter_reduce(0, rows_M, sums_M, "amax")
    winners_M = torch.where(sums_M == best_N[rows_M], tokens_M, vocab_size)
    return torch.full_like(least_N, vocab_size).scatter_reduce(0, rows_M, winners_M, "amin")


def _units(scores: Tensor, origin: Tensor) -> Tensor:
    """Scores as whole numbers of 2**-20 nat, half to even; see `noise.score_units`."""
    above = (scores.double() - origin).clamp_min(-SCORE_LIMIT)
    return (above * _UNIT).round().long()


def _first_arrivals(words_N4: Tensor, positions_N: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """times_NB of each block's first arrival, and which of its 64 ids it belongs to."""
    numbers_B = torch.arange(blocks, device=words_N4.device)
    halves_B = numbers_B & 1
    draws_NB = _draws(words_N4[:, None], positions_N[:, None], numbers_B >> 1, halves_B)
    times_NB = _exponential(draws_NB | (BLOCK - 1))
    # Divided by 64 as an unsigned word.
    return (times_NB >> 6) & ((1 << 58) - 1), draws_NB & (BLOCK - 1)


def _draws(words: Tensor, positions: Tensor, counters: Tensor, halves: Tensor) -> Tensor:
    """64-bit draws: the lower (0) or upper half of Philox4x32-10 at each counter."""
    c0, c1 = counters, positions
    k0, k1, c2, c3 = words.unbind(-1)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (p1 >> 32 & _MASK32) ^ c1 ^ k0,
            p1 & _MASK32,
            (p0 >> 32 & _MASK32) ^ c3 ^ k1,
            p0 & _MASK32,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _MASK32, (k1 + 0xBB67AE85) & _MASK32
    return torch.where(halves == 1, c3 << 32 | c2, c1 << 32 | c0)


def _exponential(draws: Tensor) -> Tensor:
    """See `noise.exponential`; the result is an unsigned word."""
    square = _high(draws, draws)
    cube = _high(square, draws)
    series = draws + square // 2 + cube // 3 + _high(cube, draws) // 4
    survive = torch.where(draws == -1, 1, ~draws)
    halvings = (64 << 32) - _ilog2(survive)
    # halvings * LN2 has 70 bits, so it is shifted in two parts.
    by_log = (halvings >> 6) * LN2_Q32 + ((halvings & 63) * LN2_Q32 >> 6)
    return torch.where(draws >> _TIME_BITS == 0, series >> (64 - _TIME_BITS), by_log)


def _high(a: Tensor, b: Tensor) -> Tensor:
    """The upper 64 bits of a * b, for numbers below 2**58."""
    a1, a0, b1, b0 = a >> 32, a & _MASK32, b >> 32, b & _MASK32
    return a1 * b1 + (a1 * b0 + a0 * b1 + (a0 * b0 >> 32 & _MASK32) >> 32)


def _gumbel_of_time(times: Tensor) -> Tensor:
    """-ln(time) in 2**-20 nat, for unsigned times in 2**-58."""
    halvings = (_TIME_BITS << 32) - _ilog2(torch.where(times == 0, 1, times))
    low = (halvings & ((1 << 20) - 1)) * LN2_Q32 >> 20
    return (halvings >> 20) * LN2_Q32 + low >> (44 - 20)


def _ilog2(x: Tensor) -> Tensor:
    """See `noise.ilog2`; x is an unsigned word of at least 1."""
    exponents = torch.full_like(x, 63)
    for width in (32, 16, 8, 4, 2, 1):
        empty = x >> (64 - width) & ((1 << width) - 1) == 0
        x = torch.where(empty, x << width, x)
        exponents = torch.where(empty, exponents - width, exponents)
    index = x >> (63 - LOG_BITS) & ((1 << LOG_BITS) - 1)
    rest = x >> (31 - LOG_BITS) & _MASK32
    table = _log2_table(x.device)
    low = table[index]
    return (exponents << 32) + low + ((table[index + 1] - low) * rest >> 32)


@cache
def _log2_table(device: torch.device) -> Tensor:
    return torch.tensor(log2_table(), dtype=torch.int64, device=device)
