"""Fingerprints keep distances, are fixed by their seed, and never pass on a NaN."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.verify.scores_fingerprint import Projection, compare, distances


def test_distances_between_hidden_states_survive_projection():
    rng = np.random.default_rng(2)
    own_TD = rng.normal(size=(200, 512)).astype(np.float32)
    sent_TD = own_TD * (1 + 0.05 * rng.normal(size=(200, 512))).astype(np.float32)
    true_T = np.linalg.norm(sent_TD - own_TD, axis=1) / np.linalg.norm(own_TD, axis=1)
    projection = Projection.of(b"seed", 512, 32)
    found_T = distances(projection.fingerprints(sent_TD), projection.fingerprints(own_TD))
    assert found_T.mean() == pytest.approx(true_T.mean(), rel=0.05)


def test_directions_are_orthogonal_and_fixed_by_the_seed():
    matrix_KD = Projection.of(b"a", 96, 8).matrix_KD
    np.testing.assert_allclose(matrix_KD @ matrix_KD.T, np.eye(8) * 12, atol=1e-4)
    np.testing.assert_array_equal(matrix_KD, Projection.of(b"a", 96, 8).matrix_KD)
    assert not np.allclose(matrix_KD, Projection.of(b"b", 96, 8).matrix_KD)


def test_a_nan_is_infinitely_far():
    own_TK = np.ones((2, 3), np.float32)
    sent_TK = own_TK.copy()
    sent_TK[1, 0] = np.nan
    assert distances(sent_TK, own_TK).tolist() == [0.0, np.inf]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError):
        Projection.of(b"a", 4, 5)
    with pytest.raises(ConfigError):
        Projection.of(b"a", 8, 2).fingerprints(np.ones((1, 9), np.float32))
    with pytest.raises(ConfigError):
        distances(np.ones((1, 2), np.float32), np.ones((2, 2), np.float32))


def test_two_engines_are_compared_token_by_token():
    rng = np.random.default_rng(5)
    projection = Projection.of(b"seed", 64, 16)
    own = [rng.normal(size=(count, 64)).astype(np.float32) for count in (3, 9)]
    same = compare(projection, zip(own, own, strict=True))
    assert (same.answers, same.tokens, same.most, same.bits_per_token) == (2, 12, 0.0, 512)
    other = [states_TD.copy() for states_TD in own]
    other[1][4] *= 1.5
    apart = compare(projection, zip(other, own, strict=True))
    assert apart.median == 0.0
    assert apart.p99 == apart.most == pytest.approx(0.5, rel=1e-4)
    other[0][0, 0] = np.nan
    assert compare(projection, zip(other, own, strict=True)).most == np.inf


def test_nothing_to_compare_is_refused():
    with pytest.raises(ConfigError):
        compare(Projection.of(b"a", 8, 2), [])
    empty = np.zeros((0, 8), np.float32)
    with pytest.raises(ConfigError):
        compare(Projection.of(b"a", 8, 2), [(empty, empty)])
