"""Syndrome-trellis codes: the message is read without the costs, and the flips are the cheapest."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.redteam.trellis import embed, extract


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(8, 60),
    payload=st.integers(1, 8),
    drawn=st.randoms(use_true_random=False),
)
def test_what_is_embedded_is_extracted(size: int, payload: int, drawn: object) -> None:
    rng = np.random.default_rng(drawn.getrandbits(32))  # type: ignore[attr-defined]
    cover_N = rng.integers(0, 2, size).astype(np.uint8)
    message_M = rng.integers(0, 2, payload).astype(np.uint8)
    served_N = embed(cover_N, rng.random(size), message_M)
    assert served_N is not None
    assert extract(served_N, payload).tolist() == message_M.tolist()


def test_the_flips_are_the_cheapest_that_say_the_message() -> None:
    rng = np.random.default_rng(5)
    for _ in range(8):
        cover_N = rng.integers(0, 2, 10).astype(np.uint8)
        cost_N, message_M = rng.random(10), rng.integers(0, 2, 4).astype(np.uint8)
        served_N = embed(cover_N, cost_N, message_M)
        assert served_N is not None
        best = min(
            float(cost_N[np.array(bits, np.uint8) != cover_N].sum())
            for bits in itertools.product((0, 1), repeat=10)
            if extract(np.array(bits, np.uint8), 4).tolist() == message_M.tolist()
        )
        assert float(cost_N[served_N != cover_N].sum()) == pytest.approx(best)


def test_forbidden_bits_are_never_flipped() -> None:
    rng = np.random.default_rng(6)
    cover_N = rng.integers(0, 2, 48).astype(np.uint8)
    cost_N = np.where(np.arange(48) % 3 == 0, 1.0, math.inf)
    served_N = embed(cover_N, cost_N, np.array([1, 0, 1], np.uint8))
    assert served_N is not None
    assert (served_N == cover_N)[np.isinf(cost_N)].all()


def test_where_only_forbidden_flips_would_do_nothing_is_embedded() -> None:
    cover_N = np.zeros(12, np.uint8)
    assert embed(cover_N, np.full(12, math.inf), np.array([1, 1], np.uint8)) is None
