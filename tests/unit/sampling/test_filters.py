"""The filters equal vLLM's, equal a full sort, and do nothing when they are off."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import EngineError
from tidegate.sampling.filters import (
    PenaltyState,
    mask_scores,
    needs_penalties,
    process_logits,
    shift_logits,
)
from tidegate.sampling.masses import F32Array, integer_masses
from tidegate.sampling.params import SamplingParams


class Case(msgspec.Struct, forbid_unknown_fields=True):
    note: str
    params: dict[str, float | int | list[tuple[int, float]]]
    logits: list[float]
    prompt: list[int]
    output: list[int]
    scores: list[float | None]


class Recording(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    scores: str
    cases: list[Case]


RECORDED = msgspec.json.decode(
    Path(__file__).with_name("vllm_0_32_0.json").read_bytes(), type=Recording
).cases


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.note)
def test_scores_equal_what_vllm_computed(case: Case) -> None:
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in case.params.items()
    }
    scores_V = process_logits(
        np.array(case.logits, np.float32),
        SamplingParams(**fields),  # type: ignore[arg-type]
        case.prompt,
        case.output,
    )
    expected_V = np.array([-np.inf if s is None else s for s in case.scores], np.float32)
    np.testing.assert_array_equal(scores_V, expected_V)


def full_sort_mask(scores_V: F32Array, params: SamplingParams) -> F32Array:
    """min_p, top_k and top_p the slow way: everything sorted, exact fractions."""
    scores_V = scores_V.copy()
    gaps_V = scores_V - scores_V.max()
    if params.min_p > 0:
        scores_V[gaps_V < np.float32(np.log(params.min_p))] = -np.inf
    if 0 < params.top_k < scores_V.size:
        scores_V[scores_V < np.sort(scores_V)[-params.top_k]] = -np.inf
    if params.top_p < 1:
        masses_V = integer_masses(scores_V - scores_V.max())
        budget = Fraction(float(np.float32(1) - np.float32(params.top_p))) * int(masses_V.sum())
        running = 0
        for token in np.argsort(scores_V, kind="stable")[:-1]:
            running += int(masses_V[token])
            if running > budget:
                break
            scores_V[token] = -np.inf
    return scores_V


vocabularies = st.integers(1, 300)
sharpness = st.sampled_from([0.05, 1.0, 4.0, 12.0])
filters = st.builds(
    SamplingParams,
    top_k=st.integers(0, 310),
    top_p=st.one_of(st.just(1.0), st.floats(1e-6, 1.0), st.sampled_from([0.5, 0.9, 0.999999])),
    min_p=st.one_of(st.just(0.0), st.floats(0.0, 1.0), st.sampled_from([1e-12, 1.0])),
)


@settings(max_examples=300)
@given(vocabularies, sharpness, st.integers(0, 2**32 - 1), st.booleans(), filters)
def test_a_pruned_sort_masks_what_a_full_sort_masks(
    vocab_size: int, scale: float, seed: int, tied: bool, params: SamplingParams
) -> None:
    scores_V = (np.random.default_rng(seed).standard_normal(vocab_size) * scale).astype(np.float32)
    if tied:
        scores_V = np.round(scores_V)
    np.testing.assert_array_equal(mask_scores(scores_V, params), full_sort_mask(scores_V, params))


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(top_p=0.95),
        SamplingParams(top_k=50),
        SamplingParams(top_k=50, top_p=0.9, min_p=0.02),
        SamplingParams(top_p=0.999999),
    ],
)
def test_a_real_sized_vocabulary_is_masked_like_a_full_sort(
    scale: float, params: SamplingParams
) -> None:
    scores_V = (np.random.default_rng(1).standard_normal(151_936) * scale).astype(np.float32)
    np.testing.assert_array_equal(mask_scores(scores_V, params), full_sort_mask(scores_V, params))


def test_nothing_is_copied_when_nothing_is_asked_for() -> None:
    logits_V = np.linspace(-3, 3, 50, dtype=np.float32)
    assert process_logits(logits_V, SamplingParams(top_k=50), [1], [2]) is logits_V


def test_greedy_is_neither_divided_nor_filtered() -> None:
    logits_V = np.linspace(-3, 3, 50, dtype=np.float32)
    params = SamplingParams(temperature=0.0, top_k=2, top_p=0.1, min_p=0.5)
    assert process_logits(logits_V, params, [1], [2]) is logits_V


@given(filters)
def test_the_best_token_survives_and_inputs_are_left_alone(params: SamplingParams) -> None:
    logits_V = np.sin(np.arange(100, dtype=np.float32) ** 2) * 6
    logits_V.flags.writeable = False
    scores_V = process_logits(logits_V, params)
    assert np.isfinite(scores_V).any()
    assert scores_V.argmax() == logits_V.argmax()


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_unusable_logits_stop_the_stream(broken: float) -> None:
    logits_V = np.array([0.0, broken, 1.0], np.float32)
    with pytest.raises(EngineError):
        process_logits(logits_V, SamplingParams(top_p=0.9))


def test_a_fully_masked_row_stops_the_stream() -> None:
    with pytest.raises(EngineError):
        process_logits(np.full(4, -np.inf, np.float32), SamplingParams(top_k=2))


@pytest.mark.parametrize("token", [5, -1])
def test_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(EngineError):
        process_logits(np.zeros(5, np.float32), SamplingParams(presence_penalty=1.0), [token])


def test_a_bias_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(EngineError):
        process_logits(np.zeros(5, np.float32), SamplingParams(logit_bias=((5, 1.0),)))


tokens = st.lists(st.integers(0, 30), max_size=40)
penalties = st.builds(
    SamplingParams,
    repetition_penalty=st.floats(0.5, 2.0),
    frequency_penalty=st.floats(-2.0, 2.0),
    presence_penalty=st.floats(-2.0, 2.0),
)


@given(tokens, tokens, penalties)
def test_penalties_counted_step_by_step_equal_penalties_counted_at_once(
    prompt: list[int], output: list[int], params: SamplingParams
) -> None:
    logits_V = np.linspace(-2, 2, 31, dtype=np.float32)
    state = PenaltyState.of(prompt)
    for token in output:
        state = state.advance(token)
    np.testing.assert_array_equal(
        shift_logits(logits_V, params, state), process_logits(logits_V, params, prompt, output)
    )


@given(tokens, st.integers(0, 30))
def test_advancing_leaves_the_earlier_state_as_it_was(output: list[int], token: int) -> None:
    state = PenaltyState.of([3], output)
    before = (state.ids_D.tolist(), state.counts_D.tolist())
    state.advance(token)
    assert before == (state.ids_D.tolist(), state.counts_D.tolist())


def test_a_neutral_penalty_needs_no_state() -> None:
    assert not needs_penalties(SamplingParams(top_p=0.5, temperature=0.3))
    assert needs_penalties(SamplingParams(repetition_penalty=1.1))


def test_masses_follow_the_exponential() -> None:
    gaps_N = -np.linspace(0, 25, 10_001, dtype=np.float32)
    masses_N = integer_masses(gaps_N)
    exact_N = np.exp(gaps_N.astype(np.float64)) * 2**42
    assert masses_N[0] == 2**42
    np.testing.assert_allclose(masses_N, exact_N, rtol=3e-7, atol=1.0)


def test_masses_of_masked_and_hopeless_scores_are_zero() -> None:
    assert integer_masses(np.array([-np.inf, -30, -1e30], np.float32)).tolist() == [0, 0, 0]
