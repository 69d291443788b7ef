"""The peer is an honest one: exact integers, lossless, and close to the cross-entropy."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.coding.plain import PRECISION, decode, encode, frequencies, ideal_bits
from tidegate.errors import EngineError


def rows(count: int, vocab: int, sharpness: float = 3.0):
    rng = np.random.default_rng(vocab)
    scores_TV = rng.normal(0, sharpness, (count, vocab)).astype(np.float32)
    tokens = [int(np.argmax(row + rng.gumbel(size=vocab))) for row in scores_TV]
    return scores_TV, tokens


@pytest.mark.parametrize("vocab", [1, 2, 1000, 151_936])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.0])
def test_frequencies_are_softmax_in_integers(vocab, temperature):
    (scores_V,), _ = rows(1, vocab)
    frequencies_V = frequencies(scores_V, temperature)
    assert frequencies_V.sum() == 1 << PRECISION
    assert frequencies_V.min() >= 1
    sharp_V = scores_V.astype(np.float64) / temperature
    exact_V = np.exp(sharp_V - sharp_V.max())
    exact_V /= exact_V.sum()
    share_V = frequencies_V / (1 << PRECISION)
    assert np.abs(share_V - exact_V).max() < (vocab + 2) / 2**PRECISION + 1e-6


def test_masked_tokens_keep_the_least_frequency():
    frequencies_V = frequencies(np.array([0.0, -np.inf, 0.0], np.float32), 1.0)
    assert frequencies_V[1] == 1
    assert frequencies_V[0] == pytest.approx(frequencies_V[2], abs=2)


def test_frequencies_are_the_same_on_every_machine():
    """Fixed once: a change of these integers breaks everything encoded with them."""
    scores_V = np.array([3.25, -1.5, 0.0, 2.875, -30.0], np.float32)
    assert frequencies(scores_V, 0.7, 16).tolist() == [41_062, 47, 396, 24_030, 1]


@pytest.mark.parametrize(
    ("temperature", "precision"), [(0.0, 28), (-1.0, 28), (float("nan"), 28), (1.0, 1), (1.0, 29)]
)
def test_impossible_settings_are_refused(temperature, precision):
    with pytest.raises(ValueError, match="temperature"):
        frequencies(np.zeros(3, np.float32), temperature, precision)


def test_unusable_scores_are_refused():
    with pytest.raises(EngineError):
        frequencies(np.array([0.0, np.nan], np.float32), 1.0)


@pytest.mark.parametrize("vocab", [1, 2, 300, 20_000])
def test_tokens_come_back_and_cost_the_cross_entropy(vocab):
    scores_TV, tokens = rows(300, vocab)
    tables = [frequencies(row, 1.0) for row in scores_TV]
    data = encode(tables, tokens)
    assert list(decode(tables, data)) == tokens
    ideal = ideal_bits(scores_TV, tokens, [1.0] * 300).sum()
    assert ideal - 1 <= 8 * len(data) <= ideal + 16 + 0.001 * 300


def test_a_row_may_depend_on_the_tokens_before_it():
    tokens = [3, 0, 2, 1, 1, 3]

    def table(previous: int):
        return frequencies(np.roll(np.array([5, 1, 0, 0], np.float32), previous), 1.0)

    data = encode([table(p) for p in (0, *tokens[:-1])], tokens)
    decoded: list[int] = []

    def tables():
        for _ in tokens:
            yield table(decoded[-1] if decoded else 0)

    for token in decode(tables(), data):
        decoded.append(token)  # noqa: PERF402 the generator reads what was appended
    assert decoded == tokens


def test_decoding_stops_where_bytes_are_missing():
    scores_TV, tokens = rows(50, 1000)
    tables = [frequencies(row, 1.0) for row in scores_TV]
    data = encode(tables, tokens)
    part = list(decode(tables, data[: len(data) // 2]))
    assert 0 < len(part) < 50
    assert part == tokens[: len(part)]


def test_ideal_bits_are_minus_log2_of_softmax():
    scores_TV = np.array([[0, 0], [0, np.log(3)], [0, -np.inf]], np.float32)
    bits_T = ideal_bits(scores_TV, [0, 1, 1], [1.0, 0.5, 1.0])
    assert bits_T[:2] == pytest.approx([1.0, -np.log2(9 / 10)])
    assert bits_T[2] == np.inf
