"""The noise is Gumbel, independent from draw to draw, and as exact as the specification says.

Seeds are fixed, so nothing here is flaky: each statistic is compared once with a value that a right
generator exceeds with a probability below one in ten thousand.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate._native._kernels import ffi, lib
from tidegate.sampling.noise import (
    BLOCK,
    SCORE_BITS,
    _draw,
    exponential,
    gumbel,
    ilog2,
    philox,
    score_units,
)

SEED = bytes(range(16))
KS_LIMIT = 2.23  # of sqrt(n) * D, at 1e-4


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_is_the_published_one(counter, key, words):
    """Known answers of Random123, the authors' own library."""
    assert philox(counter, key) == words


def draw(ids, position: int = 0, seed: bytes = SEED) -> np.ndarray:
    """Noise in nats, from the kernel; tests/property/test_noise.py holds it to the reference."""
    stream = ffi.new("tg_stream *")
    lib.tg_stream_init(stream, seed, position)
    values = [lib.tg_gumbel(stream, int(i)) for i in ids]
    return np.array(values) / 2**SCORE_BITS


def uniform(noise: np.ndarray) -> np.ndarray:
    """The Gumbel distribution function of the values."""
    return np.exp(-np.exp(-noise))


def kolmogorov_smirnov(uniforms: np.ndarray) -> float:
    """sqrt(n) times the largest distance from the uniform distribution function."""
    ordered = np.sort(uniforms)
    n = len(ordered)
    above = np.arange(1, n + 1) / n - ordered
    return float(max(above.max(), (ordered - np.arange(n) / n).max()) * math.sqrt(n))


def chi_square_excess(counts: np.ndarray, expected: np.ndarray) -> float:
    """Chi-square statistic in standard deviations above its mean (one constraint)."""
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = counts.size - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


NOISE_BI = draw(range(3000 * BLOCK)).reshape(3000, BLOCK)


def test_noise_is_gumbel():
    assert kolmogorov_smirnov(uniform(NOISE_BI.ravel())) < KS_LIMIT


def test_the_largest_of_a_block_is_gumbel_shifted_by_log_64_and_any_of_its_ids():
    assert kolmogorov_smirnov(uniform(NOISE_BI.max(axis=1) - math.log(BLOCK))) < KS_LIMIT
    winners = np.bincount(NOISE_BI.argmax(axis=1), minlength=BLOCK)
    assert chi_square_excess(winners, np.full(BLOCK, 3000 / BLOCK)) < 5


def test_every_place_in_a_block_has_the_same_law():
    for place in range(BLOCK):
        # 64 comparisons; each at a 64th of the level.
        assert kolmogorov_smirnov(uniform(NOISE_BI[:, place])) < 2.65


def test_the_tails_are_right():
    u = uniform(NOISE_BI.ravel())
    for tail in (1e-2, 1e-3, 1e-4):
        expected = u.size * tail
        for seen in ((u < tail).sum(), (u > 1 - tail).sum()):
            assert abs(seen - expected) < 4 * math.sqrt(expected)


def test_ids_of_one_block_are_independent():
    u = uniform(NOISE_BI)
    z = np.corrcoef(u.T) * math.sqrt(u.shape[0])
    assert np.abs(z[np.triu_indices(BLOCK, 1)]).max() < 5.5


@pytest.mark.parametrize(
    ("what", "one", "other"),
    [
        ("two ids of one Philox call", NOISE_BI[:, 10], NOISE_BI[:, 11]),
        ("two ids of one block", NOISE_BI[:, 0], NOISE_BI[:, 37]),
        ("blocks of one Philox call", NOISE_BI[0::2], NOISE_BI[1::2]),
        ("blocks of two Philox calls", NOISE_BI[1:-1:2], NOISE_BI[2::2]),
        ("one id at two positions", draw(range(20000), 7), draw(range(20000), 8)),
        ("one id at far positions", draw(range(20000), 1), draw(range(20000), 1 << 31)),
        (
            "seeds that differ in one bit",
            draw(range(20000)),
            draw(range(20000), 0, b"\x01" + SEED[1:]),
        ),
        (
            "seeds that differ in the last bit used",
            draw(range(20000)),
            draw(range(20000), 0, SEED[:15] + bytes([SEED[15] ^ 128])),
        ),
    ],
)
def test_draws_are_independent(what, one, other):
    """Chi-square over an 8 by 8 table of the pair's distribution functions."""
    pairs = [np.minimum(uniform(x).ravel() * 8, 7).astype(int) for x in (one, other)]
    counts = np.bincount(pairs[0] * 8 + pairs[1], minlength=64)
    assert chi_square_excess(counts, np.full(64, counts.sum() / 64)) < 5, what


def test_the_same_id_at_successive_positions_is_independent():
    series = np.array([draw([12345], position)[0] for position in range(20000)])
    assert kolmogorov_smirnov(uniform(series)) < KS_LIMIT
    u = uniform(series) - 0.5
    for lag in (1, 2, 7, 64):
        assert abs((u[:-lag] * u[lag:]).sum()) * 12 / math.sqrt(len(u)) < 4


def exact(seed: bytes, position: int, token: int) -> float:
    """The noise by its definition, in double precision, from the same random bits."""
    first = _draw(seed, position, token // BLOCK >> 1, token // BLOCK & 1)
    time = -math.log1p(-(first | 63) / 2**64) / BLOCK
    if token % BLOCK != first % BLOCK:
        other = _draw(seed, position, 1 << 31 | token >> 1, token & 1)
        time += -math.log1p(-other / 2**64)
    return -math.log(time)


def test_fixed_point_errors_are_within_the_stated_bound():
    errors = [
        gumbel(SEED, position, token) / 2**SCORE_BITS - exact(SEED, position, token)
        for position in range(30)
        for token in range(5 * BLOCK)
    ]
    assert min(errors) >= -(2**-20) - 6e-7
    assert max(errors) <= 6e-7


def test_logarithms_and_waiting_times_are_accurate_to_their_ends():
    for x in (1, 2, 3, 2**12 + 1, 2**40 - 1, 2**63, 2**64 - 1):
        assert abs(ilog2(x) / 2**32 - math.log2(x)) < 1.2e-8
    assert exponential(0) == 0
    assert exponential(63) == 0
    assert exponential(64) == 1
    for v in (2**20, 2**40, 2**57, 2**58 - 1, 2**58, 2**58 + 1, 2**63):
        exact_time = -math.log1p(-v / 2**64)
        assert abs(exponential(v) / 2**58 - exact_time) < exact_time * 5e-7 + 2**-58
    # The last two draws share the longest time; it must not be infinite or overflow 64 bits.
    assert exponential(2**64 - 1) == exponential(2**64 - 2) < 2**64
    assert exponential(2**64 - 1) / 2**58 == pytest.approx(64 * math.log(2))
    assert exponential(2**64 - 1) + exponential(2**64 - 1) // BLOCK < 2**64


def test_waiting_times_never_fall_as_the_draw_grows():
    """Across the seam between power series and logarithm too."""
    steps = [exponential(2**58 + i * 2**30) for i in range(-2000, 2000)]
    assert steps == sorted(steps)


def test_scores_are_rounded_half_to_even_and_cut_far_below_the_best():
    unit = 2.0**-20
    assert score_units([0.5 * unit, 1.5 * unit, -0.5 * unit]) == [0, 2, 0]
    assert score_units([1 / 128, 3 / 128, -math.inf], grain=14) == [0, 2 << 14, None]
    assert score_units([0.0, -3e38]) == [0, -(1 << 40)]
    assert score_units([3e6, 3e6 - 2]) == [0, -2 << 20]
