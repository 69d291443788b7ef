"""Scores say what the plain definitions say, for every filter, and refuse what cannot be scored."""

from __future__ import annotations

import math

import numpy as np
import plain_scores
import pytest

from tidegate.errors import ConfigError, EngineError
from tidegate.sampling.filters import process_logits, shift_logits
from tidegate.sampling.gumbel import greedy, sample
from tidegate.sampling.masses import block_sums
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores import DANGEROUS, SAFE, SUSPICIOUS, gm_ls, score_tokens, tiers
from tidegate.verify.scores_filters import heads
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws, shift_rows

SEED = bytes(range(32))
MARGINS = (0.05, 0.4, 1.5)
FILTERS = {
    "none": SamplingParams(),
    "cold": SamplingParams(temperature=0.3),
    "top_k": SamplingParams(top_k=5),
    "top_p": SamplingParams(top_p=0.8, temperature=0.7),
    "narrow top_p": SamplingParams(top_p=0.05),
    "min_p": SamplingParams(min_p=0.1, temperature=1.4),
    "all": SamplingParams(min_p=0.02, top_k=12, top_p=0.9, temperature=0.9),
    "top_k beyond the vocabulary": SamplingParams(top_k=500, top_p=0.9),
}


def rows(tokens: int = 12, vocab_size: int = 150, grid: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(5)
    logits_TV = rng.normal(0, 1.5, (tokens, vocab_size)).astype(np.float32)
    return np.round(logits_TV / grid).astype(np.float32) * np.float32(grid) if grid else logits_TV


def drawn(logits_TV: np.ndarray, params: SamplingParams, seed: bytes = SEED) -> list[int]:
    scores = [process_logits(logits_V, params) for logits_V in logits_TV]
    if params.temperature == 0.0:
        return [greedy(scores_V) for scores_V in scores]
    return [sample(scores_V, seed, position) for position, scores_V in enumerate(scores)]


@pytest.mark.parametrize("grid", [0.0, 0.25], ids=["all different", "many ties"])
@pytest.mark.parametrize("name", FILTERS)
def test_honest_tokens_on_the_same_machine_match_exactly(name, grid):
    logits_TV, params = rows(grid=grid), FILTERS[name]
    served = drawn(logits_TV, params)
    scores = score_tokens(logits_TV, served, params, Draws.along(SEED, len(served)))
    assert scores.expected_T.tolist() == served
    assert not scores.margin_T.any()
    assert not scores.boundary_margin_T.any()
    assert not scores.gumbel_rank_T.any()
    assert (scores.admissible_MT >= 1).all()


@pytest.mark.parametrize("grid", [0.0, 0.25], ids=["all different", "many ties"])
@pytest.mark.parametrize("name", FILTERS)
def test_scores_equal_the_plain_definitions(name, grid):
    logits_TV, params = rows(tokens=6, grid=grid), FILTERS[name]
    rng = np.random.default_rng(9)
    served = np.where(
        rng.random(6) < 0.5, drawn(logits_TV[:, :], params), rng.integers(0, 150, 6)
    ).tolist()
    scores = score_tokens(
        logits_TV, served, params, Draws.along(SEED, 6), scoring=Scoring(margins=MARGINS)
    )
    for t, token in enumerate(served):
        scores_V = shift_logits(logits_TV[t], params, None)
        plain = plain_scores.margin(scores_V, params, SEED, t, token)
        assert scores.margin_T[t] == pytest.approx(plain, abs=1e-9)
        assert scores.logit_rank_T[t] == (logits_TV[t] >= logits_TV[t, token]).sum() - 1
        for m, limit in enumerate(MARGINS):
            wanted = plain_scores.admissible(scores_V, params, SEED, t, limit)
            assert scores.admissible_MT[m, t] == len(wanted)
            assert (scores.boundary_margin_T[t] <= limit) == (token in wanted)


def test_ranks_count_survivors_with_a_larger_sum():
    logits_TV, params = rows(tokens=1), FILTERS["top_k"]
    scores_V = shift_logits(logits_TV[0], params, None)
    every = plain_scores.sums(scores_V, SEED, 0)
    kept = np.flatnonzero(process_logits(logits_TV[0], params) > -np.inf).tolist()
    ranked = sorted(kept, key=lambda token: -every[token])
    for rank, token in enumerate(ranked):
        scores = score_tokens(logits_TV, [token], params, Draws.along(SEED, 1))
        assert scores.gumbel_rank_T.tolist() == [rank]


def test_a_filter_flip_has_a_finite_boundary_margin():
    params = SamplingParams(top_k=2)
    logits_TV = np.array([[3.0, 1.0, 0.999, -9.0]], np.float32)
    seeds = [bytes([n]) * 16 for n in range(256)]
    moved_TV = logits_TV.copy()
    moved_TV[0, 2] = 1.002
    seed = next(s for s in seeds if sample(process_logits(moved_TV[0], params), s, 0) == 2)
    scores = score_tokens(logits_TV, [2], params, Draws.along(seed, 1))
    assert scores.margin_T[0] == math.inf
    assert scores.boundary_margin_T[0] == pytest.approx(0.001, abs=1e-5)


def test_greedy_tokens_are_scored_by_logit_differences():
    logits_TV = np.array([[1.0, 4.0, 3.5], [2.0, 2.0, -np.inf]], np.float32)
    scores = score_tokens(logits_TV, [2, 2], SamplingParams(temperature=0))
    assert scores.expected_T.tolist() == [1, 0]
    assert scores.margin_T.tolist() == [0.5, math.inf]
    assert scores.admissible_MT[-1].tolist() == [2, 2]


def test_penalties_follow_each_rows_own_history():
    params = SamplingParams(
        repetition_penalty=1.7,
        frequency_penalty=0.4,
        presence_penalty=-0.3,
        logit_bias=((3, 2.5), (9, -1.0)),
        temperature=0.8,
    )
    logits_TV, prompt = rows(tokens=9, vocab_size=20), [1, 3, 3, 19]
    answer = [3, 5, 5, 9, 5, 0, 3, 19, 2]
    for start in (0, 4):
        shifted_TV = shift_rows(logits_TV[start:], params, prompt, answer, start)
        for row_V, logits_V, t in zip(shifted_TV, logits_TV[start:], range(start, 9), strict=True):
            wanted_V = process_logits(logits_V, params, prompt, answer[:t])
            np.testing.assert_array_equal(row_V, wanted_V)


def test_rows_are_the_same_alone_and_in_any_block(monkeypatch):
    logits_TV, params = rows(), FILTERS["all"]
    served = drawn(logits_TV, params)
    together = score_tokens(logits_TV, served, params, Draws.along(SEED, 12))
    monkeypatch.setattr("tidegate.verify.scores._CHUNK", 150)
    alone = score_tokens(logits_TV, served, params, Draws.along(SEED, 12))
    np.testing.assert_array_equal(together.admissible_MT, alone.admissible_MT)
    np.testing.assert_array_equal(together.share_T, alone.share_T)


def test_shares_are_a_law_over_the_tokens_of_a_row():
    for params in (FILTERS["none"], FILTERS["all"]):
        logits_TV = np.repeat(rows(tokens=1), 150, axis=0)
        draws = Draws.of([SEED] * 150, [7] * 150)
        scores = score_tokens(
            logits_TV, range(150), params, draws, scoring=Scoring(margins=(2.0,), sigma=0.5)
        )
        assert scores.share_T.sum() == pytest.approx(1.0)
        assert scores.share_T.argmax() == scores.expected_T[0]


def test_gm_ls_is_the_logarithm_of_a_normal_probability():
    margin_T = np.array([0.0, 0.1, 3.0, math.inf])
    plain = [math.log(math.erfc(margin / (2 * 0.2)) / 2) for margin in (0.0, 0.1, 3.0)]
    np.testing.assert_allclose(gm_ls(margin_T, 0.2)[:3], plain, rtol=1e-12)
    assert gm_ls(margin_T, 0.2)[3] == -math.inf


def test_tiers_split_what_lies_beyond_the_margin_by_logit_rank():
    logits_TV = np.array([[9.0, 8.9, 1.0, 0.0]] * 3, np.float32)
    scores = score_tokens(logits_TV, [1, 2, 3], SamplingParams(temperature=0))
    assert tiers(scores, 0.3, 3).tolist() == [SAFE, SUSPICIOUS, DANGEROUS]


def test_no_token_at_all_scores_as_nothing():
    scores = score_tokens(np.empty((0, 7), np.float32), [], SamplingParams(temperature=0))
    assert scores.margin_T.size == 0


def test_unusable_input_is_refused():
    logits_TV, greedy_params = rows(tokens=2), SamplingParams(temperature=0)
    with pytest.raises(EngineError, match="float32 logits"):
        score_tokens(logits_TV.astype(np.float64), [1, 2], greedy_params)
    with pytest.raises(EngineError, match="outside the vocabulary"):
        score_tokens(logits_TV, [1, 150], greedy_params)
    with pytest.raises(ConfigError, match="as many draws"):
        score_tokens(logits_TV, [1, 2], SamplingParams())
    for bad in (np.nan, np.inf):
        broken_TV = logits_TV.copy()
        broken_TV[1, 4] = bad
        for params in (SamplingParams(), FILTERS["top_p"]):
            with pytest.raises(EngineError):
                score_tokens(broken_TV, [1, 2], params, Draws.along(SEED, 2))
    with pytest.raises(EngineError):
        score_tokens(np.full((1, 9), -np.inf, np.float32), [1], greedy_params)
    with pytest.raises(ConfigError, match="ascending"):
        Scoring(margins=(0.3, 0.1))
    with pytest.raises(ValueError, match="at least 16 bytes"):
        Draws.along(b"short", 1)


def test_native_masses_are_the_samplers_to_the_bit():
    rng = np.random.default_rng(2)
    scores_TV = rng.normal(0, 8, (6, 999)).astype(np.float32)
    scores_TV[2, ::3] = -np.inf
    scores_TV[3] = 1e7
    scores_TV[4] *= 1e-30
    totals_T = heads(scores_TV, SamplingParams(top_p=0.9), 0.1).whole_T
    for scores_V, total in zip(scores_TV, totals_T, strict=True):
        assert sum(block_sums(scores_V, scores_V.max())) == int(total)
