from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.bench import verify_reference as reference
from tidegate.bench import verify_scoring
from tidegate.bench.verify_scoring import EQUAL, SETTINGS, Sample, differences, measure
from tidegate.models.cache import no_progress
from tidegate.sampling.params import SamplingParams

PLAIN = SamplingParams(temperature=1.0)


def sample(seed: int, rows: int = 12, vocab_size: int = 700) -> Sample:
    rng = np.random.default_rng(seed)
    logits_TV = (3 * rng.gumbel(size=(rows, vocab_size))).astype(np.float32)
    return Sample(logits_TV, tuple(rng.integers(0, vocab_size, rows).tolist()))


def test_the_restated_functions_give_margins_that_are_worked_out_by_hand() -> None:
    logits_TV = torch.tensor([[2.0, 1.0, 0.0, -3.0]])
    exponential_V = torch.exp(-torch.tensor([0.0, 1.5, 0.25, 4.0]))
    # Sums are 2, 2.5, 0.25 and 1: the second wins.
    for token, margin, rank in ((1, 0.0, 1), (0, 0.5, 0), (3, 1.5, 3)):
        (one,) = reference.gm_ls(logits_TV, [token], PLAIN, lambda _: exponential_V, 1.0)
        (other,) = reference.token_difr(logits_TV, [token], PLAIN, lambda _: exponential_V)
        assert one.margin == pytest.approx(margin, abs=1e-6)
        assert other.margin == pytest.approx(margin, abs=1e-6)
        assert one.logit_rank == other.logit_rank == rank
        assert one.gm_ls == pytest.approx(math.log(math.erfc(margin / 2) / 2), abs=1e-6)
    top2 = SamplingParams(temperature=1.0, top_k=2)
    (one,) = reference.gm_ls(logits_TV, [2], top2, lambda _: exponential_V, 1.0)
    assert one.margin == math.inf
    half = SamplingParams(temperature=1.0, top_p=0.5)
    (one,) = reference.token_difr(logits_TV, [1], half, lambda _: exponential_V)
    assert one.margin == math.inf


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000), setting=st.sampled_from(sorted(SETTINGS)))
def test_our_scores_equal_the_published_ones_given_the_same_noise(seed: int, setting: str) -> None:
    worst, flips = differences(sample(seed), SETTINGS[setting])
    assert worst <= EQUAL
    assert flips == 0


def test_a_score_that_is_off_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.token_difr

    def wrong(*arguments: object) -> list[reference.Scored]:
        return [one._replace(margin=one.margin + 1e-3) for one in right(*arguments)]  # type: ignore[arg-type]

    monkeypatch.setattr(reference, "token_difr", wrong)
    assert differences(sample(3), PLAIN)[0] == pytest.approx(1e-3, rel=0.02)


def test_the_speedup_is_the_least_over_peers_and_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = {"ours": [1.0], "gm_ls": [30.0], "token_difr": [25.0]}
    monkeypatch.setattr(verify_scoring, "_take_turns", lambda runs, turns: times)
    figures = measure({"49k": sample(1)}, turns=1, progress=no_progress)
    assert figures["scoring_speedup_49k"].value == 25
    assert figures["scoring_speedup_49k"].holds
    assert "token_difr" in figures["scoring_speedup_49k"].how
    assert figures["scoring_difference_49k"].holds
    assert figures["scoring_filter_flips_49k"].value == 0


def test_every_turn_is_timed_but_the_first_and_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    figures = measure({"49k": sample(2, rows=3)}, turns=2, progress=no_progress)
    assert {figures[f"scoring.49k.plain.{name}_us"].n for name in ("ours", "gm_ls")} == {2}
    assert torch.get_num_threads() == before
