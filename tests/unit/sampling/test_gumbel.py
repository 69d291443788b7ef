"""Tokens follow softmax exactly, ranks follow it too, and unusable scores are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.errors import EngineError
from tidegate.sampling.gumbel import GRAIN, MAX_VOCAB, Noise, greedy, sample

SEED = bytes(range(100, 132))


def softmax(scores_V: np.ndarray) -> np.ndarray:
    weights_V = np.exp(scores_V.astype(np.float64) - scores_V.max())
    return weights_V / weights_V.sum()


def chi_square_excess(counts: np.ndarray, expected: np.ndarray) -> float:
    """Chi-square in standard deviations above its mean; cells under 10 are put together."""
    small = expected < 10
    if small.any():
        counts = np.append(counts[~small], counts[small].sum())
        expected = np.append(expected[~small], expected[small].sum())
    keep = expected > 0
    assert counts[~keep].sum() == 0
    statistic = float(((counts - expected)[keep] ** 2 / expected[keep]).sum())
    freedom = keep.sum() - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def shapes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    peak = np.zeros(300, np.float32)
    peak[77] = 4.0
    masked = rng.normal(0, 2, 300).astype(np.float32)
    masked[rng.random(300) < 0.7] = -np.inf
    return {
        "all equal over three blocks": np.zeros(192, np.float32),
        "one peak over a flat floor": peak,
        "normal": rng.normal(0, 2, 700).astype(np.float32),
        "mostly masked": masked,
        "two tokens of one block": np.array([0.0, 1.0], np.float32),
        "geometric": -0.1 * np.arange(100, dtype=np.float32),
        "counted from millions": 5e6 + rng.integers(0, 5, 40).astype(np.float32),
    }


@pytest.mark.parametrize("shape", shapes())
def test_tokens_follow_softmax(shape):
    scores_V = shapes()[shape]
    draws, noise = 30_000, Noise(scores_V.size, SEED)
    counts_V = np.zeros(scores_V.size)
    for position in range(draws):
        noise.move(SEED, position)
        counts_V[noise.sample(scores_V)] += 1
    assert chi_square_excess(counts_V, softmax(scores_V) * draws) < 5


def test_runners_up_follow_softmax_without_the_winner():
    """Ranks by score + Gumbel are draws without replacement (Plackett and Luce)."""
    scores_V = np.array([0.0, 1.0, -1.0, 0.5, 2.0], np.float32)
    p_V, draws, noise = softmax(scores_V), 40_000, Noise(5, SEED)
    counts_VV = np.zeros((5, 5))
    for position in range(draws):
        noise.move(SEED, position)
        first, second = noise.rank(scores_V, 2).ids
        counts_VV[first, second] += 1
    expected_VV = draws * p_V[:, None] * p_V / (1 - p_V)[:, None]
    np.fill_diagonal(expected_VV, 0)
    assert chi_square_excess(counts_VV.ravel(), expected_VV.ravel()) < 5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 63, 64, 100, 129])
@pytest.mark.parametrize("seed", [None, SEED])
def test_scores_with_nan_or_infinity_are_refused(bad, place, seed):
    scores_V = np.zeros(130, np.float32)
    scores_V[place] = bad
    noise = Noise(130, seed)
    with pytest.raises(EngineError):
        noise.sample(scores_V)
    with pytest.raises(EngineError):
        noise.rank(scores_V, 5)


def test_scores_that_are_all_masked_are_refused():
    with pytest.raises(EngineError):
        sample(np.full(100, -np.inf, np.float32), SEED, 0)


@pytest.mark.parametrize(
    "scores", [np.zeros(99, np.float32), np.zeros(100), np.zeros((1, 100), np.float32)]
)
def test_scores_of_another_size_or_type_are_refused(scores):
    with pytest.raises(ValueError, match="float32 \\[100\\]"):
        Noise(100, SEED).sample(scores)


def test_what_cannot_name_a_draw_is_refused():
    with pytest.raises(ValueError, match="16 bytes"):
        Noise(10, bytes(15))
    for position in (-1, 1 << 32):
        with pytest.raises(ValueError, match="32 bits"):
            Noise(10, SEED, position)
    for vocab_size in (0, -1, -1000, MAX_VOCAB + 1):
        with pytest.raises(ValueError, match="vocabulary"):
            Noise(vocab_size)
    with pytest.raises(ValueError, match="ranked"):
        Noise(10).rank(np.zeros(10, np.float32), 0)


def test_greedy_takes_the_highest_score_and_the_lower_id_in_a_tie():
    scores_V = np.zeros(200, np.float32)
    scores_V[[70, 150]] = 3.0
    assert greedy(scores_V) == 70
    assert greedy(-1e30 * np.ones(3, np.float32)) == 0


def test_noise_reads_scores_that_are_not_contiguous():
    scores_2V = np.random.default_rng(1).normal(0, 3, (300, 2)).astype(np.float32)
    column_V = scores_2V[:, 1]
    assert sample(column_V, SEED, 4) == sample(column_V.copy(), SEED, 4)


def test_ranking_is_best_first_and_says_how_far_behind_each_is():
    scores_V = np.array([1.0, 5.0, -np.inf, 4.0], np.float32)
    ranking = Noise(4).rank(scores_V, 10)
    assert ranking.ids.tolist() == [1, 3, 0]
    assert ranking.gaps.tolist() == [0, 1 << 20, 4 << 20]
    assert ranking.falls.tolist() == [0, 1 << 20, 4 << 20]
    assert ranking.greedy


def test_scores_that_differ_by_less_than_the_grain_mostly_rank_alike():
    """What makes two machines agree although their float scores differ in the last digits."""
    rng = np.random.default_rng(2)
    scores_V = rng.normal(0, 3, 5000).astype(np.float32)
    shaken_V = scores_V + rng.normal(0, 1e-5, 5000).astype(np.float32)
    one, other = (Noise(5000, SEED).rank(s, 128) for s in (scores_V, shaken_V))
    assert np.all(one.falls % (1 << GRAIN) == 0)
    assert np.mean(one.ids == other.ids) > 0.9


def test_distances_stop_at_the_largest_int32():
    ranking = Noise(3).rank(np.array([0.0, -5000.0, -3e38], np.float32), 3)
    assert ranking.gaps.tolist() == ranking.falls.tolist() == [0, 2**31 - 1, 2**31 - 1]


def test_the_same_noise_serves_the_strong_and_the_weak_scores():
    """Equal scores put the sampled token first: the point of the shared seed."""
    scores_V = np.random.default_rng(3).normal(0, 2, 2000).astype(np.float32)
    rounded_V = np.rint(scores_V * 64) / np.float32(64)
    noise = Noise(2000, SEED, 9)
    assert (
        noise.rank(rounded_V, 128).ids[0] == noise.sample(rounded_V) == sample(rounded_V, SEED, 9)
    )
