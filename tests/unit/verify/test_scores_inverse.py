"""IPT-LS scores what `sampling.inverse` draws, and counts what else would have scored as well."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.sampling.filters import mask_scores
from tidegate.sampling.inverse import invert
from tidegate.sampling.masses import integer_masses
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores_inverse import FLOOR, score_inverse

SIGMA = 0.01
PARAMS = {"none": SamplingParams(), "all": SamplingParams(top_k=20, top_p=0.9, min_p=0.01)}


def rows(tokens=40, vocab_size=120):
    rng = np.random.default_rng(3)
    scores_TV = rng.normal(0, 2, (tokens, vocab_size)).astype(np.float32)
    return scores_TV, tuple(int(n) for n in rng.integers(0, 2**64, tokens, dtype=np.uint64))


def score(scores_TV, served, uniforms, params, threshold=-5.0):
    served_T = np.array(served)
    return score_inverse(scores_TV, served_T, uniforms, params, sigma=SIGMA, threshold=threshold)


def plain(masked_V, uniform):
    """IPT-LS of every token of a row."""
    ends = np.cumsum(integer_masses(masked_V - masked_V.max()).astype(float))
    ends /= ends[-1]
    phi = [0.5 * math.erfc(-(end - uniform / 2**64) / SIGMA / math.sqrt(2)) for end in ends]
    start = 0.5 * math.erfc(uniform / 2**64 / SIGMA / math.sqrt(2))
    return [
        math.log(max(high - low, 0) + FLOOR)
        for low, high in zip([start, *phi[:-1]], phi, strict=True)
    ]


@pytest.mark.parametrize("name", PARAMS)
def test_the_expected_token_is_the_one_drawn(name):
    scores_TV, uniforms = rows()
    served = [
        invert(mask_scores(scores_V, PARAMS[name]), uniform)
        for scores_V, uniform in zip(scores_TV, uniforms, strict=True)
    ]
    scores = score(scores_TV, served, uniforms, PARAMS[name])
    assert scores.expected_T.tolist() == served
    assert not scores.distance_T.any()


@pytest.mark.parametrize("name", PARAMS)
def test_scores_and_admissible_sets_equal_the_plain_definition(name):
    scores_TV, uniforms = rows()
    served = np.random.default_rng(1).integers(0, 120, 40).tolist()
    scores = score(scores_TV, served, uniforms, PARAMS[name])
    for t, uniform in enumerate(uniforms):
        wanted = plain(mask_scores(scores_TV[t], PARAMS[name]), uniform)
        assert scores.score_T[t] == pytest.approx(wanted[served[t]], abs=1e-5)
        assert scores.admissible_T[t] == sum(value >= -5.0 for value in wanted)


def test_a_token_that_cannot_be_drawn_lies_infinitely_far():
    scores_TV = np.array([[0.0, 0.0, -np.inf]], np.float32)
    scores = score(scores_TV, [2], (1 << 63,), SamplingParams())
    assert scores.distance_T[0] == math.inf
    assert scores.score_T[0] == pytest.approx(math.log(FLOOR))


def test_unusable_input_is_refused():
    scores_TV, uniforms = rows(tokens=2)
    with pytest.raises(ConfigError, match="one uniform number a token"):
        score(scores_TV, [1], uniforms, SamplingParams())
    with pytest.raises(ConfigError, match="integer in"):
        score(scores_TV, [1, 2], (0, 1 << 64), SamplingParams())
