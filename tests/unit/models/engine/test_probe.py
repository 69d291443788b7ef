"""What a probe's answer says of the engine that gave it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from link_world import VOCABULARY, TableModel

from tidegate.models.engine_model import ModelEngine, logprob_of
from tidegate.models.engine_port import Ask
from tidegate.models.engine_probe import (
    LISTED,
    SEEDS,
    TOKENS,
    Heard,
    judge,
    probes,
    same_weights,
)
from tidegate.models.port import F32Array
from tidegate.sampling.params import SamplingParams


def row_of(logits_V: F32Array) -> dict[int, float]:
    order = np.argsort(-logits_V, kind="stable")[:LISTED]
    return {int(token): logprob_of(logits_V, int(token)) for token in order}


def heard(ask: Ask, drawn_as: Ask, sharpness: float = 1.5, noise: float = 0.0) -> Heard:
    """The answer of an engine that draws `drawn_as`, its log-probabilities off by `noise`."""
    table = TableModel(sharpness)
    drawing = ModelEngine(table).start(drawn_as)
    tokens = tuple(drawing.take().token for _ in range(TOKENS))
    rng = np.random.default_rng(4)
    rows = []
    for place in range(TOKENS):
        logits_V = table.logits([*ask.prompt, *tokens[:place]])
        off_V = rng.uniform(-noise, noise, logits_V.shape).astype(np.float32)
        rows.append(row_of(logits_V + off_V))
    return Heard(tokens, tuple(rows))


@pytest.fixture
def ask() -> Ask:
    return next(probes(VOCABULARY))


def test_our_noise_is_recognised(ask: Ask):
    assert judge(ask, heard(ask, ask)) == "seeded"


def test_a_little_difference_between_two_passes_does_not_matter(ask: Ask):
    assert judge(ask, heard(ask, ask, noise=0.1)) == "seeded"


def test_an_engine_without_the_plug_in_is_seen_as_greedy(ask: Ask):
    greedy = replace(ask, params=SamplingParams(temperature=0.0))
    assert judge(ask, heard(ask, greedy)) == "greedy"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": bytes(32)},
        {"params": SamplingParams(temperature=2.0)},
        {"params": SamplingParams(temperature=0.3, top_k=8)},
    ],
    ids=["another seed", "no filter", "another temperature"],
)
def test_other_noise_or_other_filters_are_recognised(ask: Ask, change: dict[str, object]):
    assert judge(ask, heard(ask, replace(ask, **change))) in ("other", "greedy")  # type: ignore[arg-type]


def test_a_model_so_sure_that_noise_changes_nothing_leaves_it_open(ask: Ask):
    assert judge(ask, heard(ask, ask, sharpness=400.0)) == "unclear"


def test_each_attempt_has_its_own_seed_and_prompt_and_fits_small_vocabularies():
    for size in (20, VOCABULARY, 151_936):
        asks = list(islice(probes(size), SEEDS + 1))
        assert len(asks) == SEEDS
        assert len({ask.seed for ask in asks}) == SEEDS
        assert all(0 <= token < size for ask in asks for token in ask.prompt)


def test_the_same_weights_are_told_from_others():
    table, other = TableModel(1.5), TableModel(1.5, blur=2.0)
    prompt = [3, 8, 11]
    mine, again = row_of(table.logits(prompt)), row_of(table.logits(prompt) + np.float32(0.05))
    assert same_weights(mine, again)
    assert not same_weights(mine, row_of(other.logits(prompt)))
    assert not same_weights(mine, {token: value - 1 for token, value in mine.items()})
    assert not same_weights(mine, {token + VOCABULARY: -1.0 for token in mine})


def test_a_token_that_is_not_among_the_listed_is_other_noise(ask: Ask):
    found = heard(ask, ask)
    strange = next(token for token in range(VOCABULARY) if token not in found.rows[2])
    tokens = (*found.tokens[:2], strange, *found.tokens[3:])
    assert judge(ask, Heard(tokens, found.rows)) == "other"
    assert math.isfinite(max(found.rows[2].values()))
