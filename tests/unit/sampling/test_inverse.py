"""The inverse transform draws from the softmax, and only from what the filters left."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ConfigError, EngineError
from tidegate.sampling.inverse import invert

SCORES_V = np.array([1.5, -np.inf, 0.0, 2.0, -1.0, 0.5], np.float32)


def test_the_law_is_the_softmax() -> None:
    draws = 20_000
    counts_V = np.zeros(SCORES_V.size)
    for n in range(draws):
        digest = hashlib.blake2b(n.to_bytes(4, "little"), digest_size=8).digest()
        counts_V[invert(SCORES_V, int.from_bytes(digest, "little"))] += 1
    weights_V = np.exp(SCORES_V)
    expected_V = draws * weights_V / weights_V.sum()
    live_V = expected_V > 0
    chi_square = (((counts_V - expected_V) ** 2)[live_V] / expected_V[live_V]).sum()
    assert counts_V[1] == 0
    assert chi_square < 18.47  # 4 degrees of freedom, exceeded by chance once in 1,000


@given(st.integers(0, 2**64 - 1))
def test_a_masked_token_is_never_drawn(uniform: int) -> None:
    assert np.isfinite(SCORES_V[invert(SCORES_V, uniform)])


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_larger_uniform_never_draws_an_earlier_id(first: int, second: int) -> None:
    low, high = sorted((first, second))
    assert invert(SCORES_V, low) <= invert(SCORES_V, high)


def test_the_ends_of_the_range_draw_the_first_and_the_last_token() -> None:
    assert invert(SCORES_V, 0) == 0
    assert invert(SCORES_V, 2**64 - 1) == 5


def test_known_draws_stay_what_they_are() -> None:
    uniforms = [n * 0x9E3779B97F4A7C15 % 2**64 for n in range(12)]
    assert [invert(SCORES_V, u) for u in uniforms] == [0, 3, 0, 3, 3, 0, 3, 2, 5, 3, 0, 3]


@pytest.mark.parametrize("uniform", [-1, 2**64])
def test_a_uniform_out_of_range_is_refused(uniform: int) -> None:
    with pytest.raises(ConfigError):
        invert(SCORES_V, uniform)


def test_scores_with_nothing_left_are_refused() -> None:
    with pytest.raises(EngineError):
        invert(np.full(3, -np.inf, np.float32), 0)
