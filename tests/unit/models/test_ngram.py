from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.errors import IntegrityError, ModelError
from tidegate.models import ngram
from tidegate.models.ngram_tables import count, read

texts = st.lists(st.integers(0, 96), min_size=1, max_size=40)


def probabilities(scores_V: np.ndarray) -> np.ndarray:
    weights_V = np.exp(scores_V.astype(np.float64))
    return weights_V / weights_V.sum()


def reference(path: Path, text: list[int]) -> list[Fraction]:
    """The same mixture from its definition, in exact rationals, shortest context first."""
    manifest, unigram_V, followers = read(path)
    smoothing = manifest.smoothing
    prior = [
        Fraction(int(times))
        + Fraction(smoothing.prior_weight) / Fraction(index + smoothing.prior_offset)
        for index, times in enumerate(unigram_V)
    ]
    mixed = [value / sum(prior) for value in prior]
    for length in range(len(smoothing.cache_weights)):
        if length > len(text):
            break
        context = text[len(text) - length :]
        shares = [Fraction(0)] * manifest.vocab_size
        backoff = Fraction(0)
        if 1 <= length <= len(followers):
            table, discount = followers[length - 1], Fraction(smoothing.discounts[length - 1])
            packed = sum(t * manifest.vocab_size**i for i, t in enumerate(reversed(context)))
            row = table.find(packed)
            if row is not None:
                for place in range(int(table.starts[row]), int(table.starts[row + 1])):
                    shares[int(table.tokens[place])] += int(table.counts[place]) - discount
                    backoff += discount
        weight = Fraction(smoothing.cache_weights[length])
        came = [
            text[place]
            for place in range(length, len(text))
            if text[place - length : place] == context
        ]
        for token in came:
            shares[token] += weight
        backoff += len(set(came)) * Fraction(smoothing.cache_backoffs[length])
        if backoff:
            total = sum(shares) + backoff
            mixed = [(s + backoff * p) / total for s, p in zip(shares, mixed, strict=True)]
    return mixed


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts)
def test_scores_are_the_mixture_of_all_contexts(ngram_manifest: Path, text: list[int]):
    model = ngram.load(ngram_manifest)
    actual = probabilities(model.forward([(0, text)])[0])
    expected = np.array([float(p) for p in reference(ngram_manifest, text)])
    np.testing.assert_allclose(actual, expected, rtol=1e-3)


def test_scores_have_the_recorded_bits(ngram_manifest: Path):
    """Fixed on one machine; a machine that differs cannot share a link with it."""
    model = ngram.load(ngram_manifest)
    digest = hashlib.sha256()
    for step in range(40):
        batch = [(number, [(step * step + 5 * number) % 45 + 1]) for number in range(3)]
        digest.update(model.forward(batch).astype("<f4").tobytes())
    assert digest.hexdigest() == "133d884a85e5a40fe2b98961656a333855406ec8b2e3f32b0063931f5eb9ebb6"


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(one=texts, other=texts)
def test_a_neighbour_in_the_batch_changes_no_bit(
    ngram_manifest: Path, one: list[int], other: list[int]
):
    together, alone = ngram.load(ngram_manifest), ngram.load(ngram_manifest)
    both = together.forward([(0, other), (1, one)])
    np.testing.assert_array_equal(both[1], alone.forward([(1, one)])[0])


def test_text_that_repeats_is_expected_to_go_on(ngram_manifest: Path):
    model = ngram.load(ngram_manifest)
    scores_V = model.forward([(0, [90, 91, 92, 93] * 5)])[0]
    assert int(scores_V.argmax()) == 90
    assert probabilities(scores_V)[90] > 0.5


def test_the_log_is_within_its_stated_error():
    values = np.array([2.0**-40, 1e-9, 0.1, 0.5, 0.7071, 1.0, 3.0, 12345.678, 2.0**40])
    expected = np.array([math.log(value) for value in values])
    assert np.abs(ngram.exact_log(values) - expected).max() < 1.3e-4


@given(st.floats(1e-30, 1e30), st.floats(1e-30, 1e30))
def test_the_log_never_reverses_an_order(one: float, other: float):
    low, high = ngram.exact_log(np.array(sorted((one, other))))
    assert low <= high


def test_prompts_are_context_but_are_not_counted():
    tables = count([([5, 6, 7], [8])], order=3, vocab_size=10)
    assert tables["counts_0"].tolist() == [0] * 8 + [1, 0]
    assert tables["contexts_1"].tolist() == [7]
    assert tables["contexts_2"].tolist() == [7 + 10 * 6]


def test_shorter_contexts_count_different_longer_ones():
    # 9 follows 8 three times, but only after two different tokens.
    tables = count([([1, 8], [9]), ([1, 8], [9]), ([2, 8], [9])], order=3, vocab_size=10)
    assert tables["counts_2"].tolist() == [2, 1]
    assert tables["counts_1"].tolist() == [2]
    assert tables["counts_0"][9] == 1


def test_changed_tables_are_refused_by_name(ngram_manifest: Path):
    path = ngram_manifest.parent / "tables.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=r"tables\.safetensors"):
        ngram.load(ngram_manifest)


def test_a_manifest_with_unknown_fields_is_refused(ngram_manifest: Path):
    ngram_manifest.write_bytes(ngram_manifest.read_bytes().replace(b'"name"', b'"nome"'))
    with pytest.raises(IntegrityError, match=r"small\.json"):
        ngram.load(ngram_manifest)


def test_a_missing_manifest_is_a_model_error(tmp_path: Path):
    with pytest.raises(ModelError):
        ngram.load(tmp_path / "absent.json")


def test_other_smoothing_is_another_fingerprint(ngram_manifest: Path):
    first = ngram.load(ngram_manifest).fingerprint
    ngram_manifest.write_bytes(ngram_manifest.read_bytes().replace(b"0.75", b"0.5", 1))
    assert ngram.load(ngram_manifest).fingerprint != first
