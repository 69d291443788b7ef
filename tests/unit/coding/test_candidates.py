"""Candidates are the weak model's best tokens under the strong model's own noise."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.coding.candidates import CANDIDATES, candidates, no_candidates
from tidegate.coding.upload import UploadEncoder
from tidegate.sampling.gumbel import Noise

SEED = bytes(32)


def scores(vocab: int = 2000) -> np.ndarray:
    return np.random.default_rng(vocab).normal(0, 3, vocab).astype(np.float32)


def test_noise_drawn_already_gives_the_same_candidates():
    fresh = candidates(scores(), 1.0, SEED, 5)
    shared = candidates(scores(), 1.0, SEED, 5, Noise(2000, SEED, 5))
    assert np.array_equal(fresh.ids, shared.ids)
    assert np.array_equal(fresh.gaps, shared.gaps)


def test_at_temperature_zero_candidates_are_ranked_by_score_alone():
    cand = candidates(scores(), 0.0, SEED, 5)
    assert cand.greedy
    assert np.array_equal(cand.gaps, cand.falls)
    assert cand.ids[0] == np.argmax(np.rint(scores() * 64))


def test_a_small_or_masked_vocabulary_gives_fewer_candidates():
    assert len(candidates(scores(), 1.0, SEED, 0).ids) == CANDIDATES
    assert len(candidates(scores(7), 1.0, SEED, 0).ids) == 7
    masked_V = np.full(2000, -np.inf, np.float32)
    masked_V[:3] = 0
    assert sorted(candidates(masked_V, 1.0, SEED, 0).ids) == [0, 1, 2]


@pytest.mark.parametrize("greedy", [False, True])
def test_without_candidates_every_token_is_a_bare_number(greedy):
    encoder, cand = UploadEncoder(2000), no_candidates(greedy)
    costs = [encoder.put_token(cand, token) for token in range(300)]
    assert len(cand.ids) == 0
    assert costs[-1] / 65536 == pytest.approx(np.log2(2004), abs=0.02)
