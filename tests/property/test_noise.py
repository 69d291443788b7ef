"""The kernels draw, sample and rank exactly what the definition in Python integers does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate._native._kernels import ffi, lib
from tidegate.errors import EngineError
from tidegate.sampling import noise as reference
from tidegate.sampling.gumbel import GRAIN, Noise

SEEDS = st.binary(min_size=16, max_size=32)
POSITIONS = st.integers(0, 2**32 - 1)


def native_noise(seed: bytes, position: int, tokens) -> list[int]:
    stream = ffi.new("tg_stream *")
    lib.tg_stream_init(stream, seed, position)
    return [lib.tg_gumbel(stream, int(token)) for token in tokens]


@given(seed=SEEDS, position=POSITIONS, tokens=st.lists(st.integers(0, 2**31 - 1), max_size=20))
@example(seed=bytes(16), position=0, tokens=[0, 1, 63, 64, 127, 128, 2**30, 2**31 - 1])
@example(seed=b"\xff" * 16, position=2**32 - 1, tokens=[0, 1, 63, 64, 127, 128, 2**31 - 1])
@settings(deadline=None)
def test_kernel_and_definition_draw_the_same(seed, position, tokens):
    assert native_noise(seed, position, tokens) == [
        reference.gumbel(seed, position, token) for token in tokens
    ]


@given(time=st.integers(0, 2**64 - 1))
@example(time=0)
@example(time=2**64 - 1)
@example(time=2**58)
def test_kernel_and_definition_read_times_the_same(time):
    log2s = (58 << 32) - reference.ilog2(time or 1)
    assert lib.tg_gumbel_of_time(time) == log2s * reference.LN2_Q32 >> 44


@given(seed=SEEDS, position=POSITIONS, vocab=st.integers(1, 700))
@settings(deadline=None, max_examples=50)
def test_an_ids_noise_does_not_depend_on_the_vocabulary(seed, position, vocab):
    """Wherever the vocabulary is cut, equal scores rank ids exactly by their own noise."""
    ranking = Noise(vocab, seed, position).rank(np.zeros(vocab, np.float32), vocab)
    values = native_noise(seed, position, range(vocab))
    order = sorted(range(vocab), key=lambda token: (-values[token], token))
    assert ranking.ids.tolist() == order
    assert ranking.gaps.tolist() == [values[order[0]] - values[token] for token in order]


def flat(rng, vocab):
    return np.full(vocab, rng.normal(), np.float32)


def normal(rng, vocab):
    return rng.normal(0, rng.choice([0.01, 1, 5, 50]), vocab).astype(np.float32)


def masked(rng, vocab):
    scores_V = normal(rng, vocab)
    scores_V[rng.random(vocab) < rng.choice([0.1, 0.9, 0.99])] = -np.inf
    scores_V[rng.integers(vocab)] = 0.0
    return scores_V


def one_peak(rng, vocab):
    scores_V = flat(rng, vocab)
    scores_V[rng.integers(vocab)] += rng.choice([1, 10, 100, 1e5])
    return scores_V


def only_one_left(rng, vocab):
    scores_V = np.full(vocab, -np.inf, np.float32)
    scores_V[rng.integers(vocab)] = rng.normal()
    return scores_V


def ties(rng, vocab):
    return rng.integers(0, 3, vocab).astype(np.float32)


def beyond_the_limit(rng, vocab):
    sign = rng.choice([-1, 1])
    return (sign * rng.uniform(1, 4, vocab) * rng.choice([2e5, 1e6, 1e12, 8e37])).astype(np.float32)


def one_block_far_above(rng, vocab):
    scores_V = normal(rng, vocab)
    scores_V[: min(64, vocab)] += 200
    return scores_V


def climbing(rng, vocab):
    """The best come last: a selection that trusted the order of ids would be caught."""
    return np.linspace(-20, 20, vocab, dtype=np.float32)


SHAPES = st.sampled_from(
    [
        flat,
        normal,
        masked,
        one_peak,
        only_one_left,
        ties,
        beyond_the_limit,
        one_block_far_above,
        climbing,
    ]
)
VOCABS = st.one_of(st.sampled_from([1, 2, 63, 64, 65, 127, 128, 129, 200]), st.integers(1, 400))


@given(
    shape=SHAPES,
    vocab=VOCABS,
    rng=st.integers(0, 2**32),
    seed=st.one_of(st.none(), SEEDS),
    position=POSITIONS,
    wanted=st.sampled_from([1, 2, 5, 64, 128, 500]),
)
@settings(deadline=None, max_examples=250)
def test_selection_is_the_brute_force_one(shape, vocab, rng, seed, position, wanted):
    scores_V = shape(np.random.default_rng(rng), vocab)
    noise = Noise(vocab, seed, position)
    assert noise.sample(scores_V) == reference.sample(scores_V.tolist(), seed, position)
    ranking = noise.rank(scores_V, wanted)
    columns = (ranking.ids.tolist(), ranking.gaps.tolist(), ranking.falls.tolist())
    expected = reference.rank(scores_V.tolist(), seed, position, wanted, GRAIN)
    assert list(zip(*columns, strict=True)) == expected


@given(scores=st.lists(st.floats(width=32), min_size=1, max_size=130), seed=SEEDS)
@settings(deadline=None)
def test_any_floats_are_sampled_as_defined_or_refused(scores, seed):
    scores_V = np.array(scores, np.float32)
    try:
        expected = reference.sample(scores_V.tolist(), seed, 0)
    except ValueError:
        with pytest.raises(EngineError):
            Noise(len(scores), seed).sample(scores_V)
        return
    assert Noise(len(scores), seed).sample(scores_V) == expected


@pytest.mark.parametrize("sharpness", [0.01, 1.0, 3.0, 30.0])
def test_selection_over_a_real_vocabulary_is_the_brute_force_one(sharpness):
    """151,936 ids: the noise of all of them, from the kernel's per-id function."""
    vocab, seed = 151_936, bytes(range(16))
    scores_V = np.random.default_rng(4).normal(0, sharpness, vocab).astype(np.float32)
    all_V = np.array(native_noise(seed, 3, range(vocab)))
    noise = Noise(vocab, seed, 3)
    sums_V = np.rint(scores_V.astype(np.float64) * 2**20).astype(np.int64) + all_V
    assert noise.sample(scores_V) == int(np.argmax(sums_V))
    grained_V = (np.rint(scores_V.astype(np.float64) * 64).astype(np.int64) << GRAIN) + all_V
    order = np.lexsort((np.arange(vocab), -grained_V))[:128]
    ranking = noise.rank(scores_V, 128)
    assert np.array_equal(ranking.ids, order)
    assert np.array_equal(ranking.gaps, grained_V[order[0]] - grained_V[order])
