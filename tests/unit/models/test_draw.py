"""Rows drawn all at once on a device are the rows that `sampling` draws one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import EngineError
from tidegate.models.draw import Drawer, Row, tokens_on_device
from tidegate.models.draw_torch import sample_rows, seed_words
from tidegate.sampling import noise
from tidegate.sampling.filters import PenaltyState
from tidegate.sampling.params import SamplingParams

SIZES = (1, 2, 63, 64, 65, 130, 1000)


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, list[Row]]:
    """Logits with ties, masked ids and huge values, and rows that each ask for something else."""
    vocab_size = draw(st.sampled_from(SIZES))
    count = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits_NV = rng.normal(size=(count, vocab_size)) * draw(st.sampled_from((0, 1, 4, 3e6)))
    if draw(st.booleans()):
        logits_NV = np.round(logits_NV)
    masked_NV = rng.random(logits_NV.shape) < draw(st.sampled_from((0, 0.5)))
    masked_NV[:, rng.integers(vocab_size)] = False
    logits_NV[masked_NV] = -np.inf
    ids = st.integers(0, vocab_size - 1)
    rows = [
        Row(
            SamplingParams(
                temperature=draw(st.sampled_from((0.0, 1e-6, 0.7, 1.0, 2.0))),
                top_k=draw(st.sampled_from((0, 1, 7, 10**6))),
                top_p=draw(st.sampled_from((1e-9, 0.3, 0.9, 0.999, 1.0))),
                min_p=draw(st.sampled_from((0.0, 0.05, 1.0))),
                presence_penalty=draw(st.sampled_from((0.0, 0.7))),
                frequency_penalty=draw(st.sampled_from((0.0, -0.4))),
                repetition_penalty=draw(st.sampled_from((1.0, 1.3))),
                logit_bias=tuple((token, 1.5) for token in sorted(draw(st.sets(ids, max_size=2)))),
            ),
            draw(st.binary(min_size=32, max_size=32)),
            draw(st.integers(0, 2**32 - 1)),
            PenaltyState.of(draw(st.lists(ids, max_size=4)), draw(st.lists(ids, max_size=4))),
        )
        for _ in range(count)
    ]
    return torch.from_numpy(logits_NV.astype(np.float32)), rows


@given(batches())
@settings(max_examples=150)
def test_a_device_draws_the_tokens_that_the_kernel_draws(
    batch: tuple[torch.Tensor, list[Row]],
) -> None:
    logits_NV, rows = batch
    before_NV = logits_NV.clone()
    tokens = Drawer(logits_NV.shape[1]).tokens(logits_NV, rows)
    assert tokens_on_device(logits_NV, rows).tolist() == tokens.tolist()
    assert torch.equal(logits_NV, before_NV)


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32 - 1),
    st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=200),
)
@settings(max_examples=60)
def test_a_device_draws_what_the_definition_says(
    seed: bytes, position: int, scores: list[float]
) -> None:
    tokens_N = sample_rows(
        torch.tensor([scores]),
        torch.tensor([seed_words(seed)]),
        torch.tensor([position]),
        torch.tensor([1]),
    )
    assert tokens_N.tolist() == [noise.sample(scores, seed, position)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(top_p=0.9, min_p=0.1)])
def test_a_row_that_is_unusable_is_refused(bad: float, params: SamplingParams) -> None:
    logits_NV = torch.zeros((2, 100))
    logits_NV[1, 70] = bad
    rows = [Row(params, bytes(32), 0)] * 2
    for tokens in (Drawer(100).tokens, tokens_on_device):
        with pytest.raises(EngineError):
            tokens(logits_NV, rows)


def test_a_row_with_nothing_left_is_refused() -> None:
    for tokens in (Drawer(10).tokens, tokens_on_device):
        with pytest.raises(EngineError):
            tokens(torch.full((1, 10), -torch.inf), [Row(SamplingParams(), bytes(32), 0)])


def test_penalties_without_the_tokens_that_they_count_are_refused() -> None:
    with pytest.raises(EngineError):
        Row(SamplingParams(presence_penalty=0.5), bytes(32), 0)


def test_a_bias_outside_the_vocabulary_is_refused() -> None:
    rows = [Row(SamplingParams(logit_bias=((10, 1.0),)), bytes(32), 0)]
    for tokens in (Drawer(10).tokens, tokens_on_device):
        with pytest.raises(EngineError):
            tokens(torch.zeros((1, 10)), rows)
