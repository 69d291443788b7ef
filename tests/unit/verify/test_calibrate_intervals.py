"""Intervals cover, and a sample is not made to carry more than it can."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.verify.calibrate_intervals import (
    SampleTooSmallError,
    bootstrap,
    claim_at_most,
    clopper_pearson,
    conformal_margin,
    conformal_p,
    design_effect,
    trials_needed,
    upper_bound,
)


def test_textbook_intervals():
    interval = clopper_pearson(3, 100)
    assert (interval.low, interval.high) == pytest.approx((0.006230, 0.085176), abs=1e-6)
    assert clopper_pearson(0, 10).high == pytest.approx(1 - 0.025**0.1)
    assert clopper_pearson(10, 10).low == pytest.approx(0.025**0.1)
    assert clopper_pearson(300, 30_000).high == pytest.approx(0.011191, abs=1e-6)


def test_2600_quiet_tokens_cannot_carry_one_in_ten_thousand_but_30000_can():
    with pytest.raises(SampleTooSmallError) as refusal:
        claim_at_most(1e-4, 0, 2_600)
    assert refusal.value.details["need"] == 29_956
    assert claim_at_most(1e-4, 0, 30_000) <= 1e-4
    with pytest.raises(SampleTooSmallError) as refusal:
        claim_at_most(1e-4, 1, 30_000)
    assert refusal.value.details["need"] == 47_437


@pytest.mark.parametrize("events", [0, 1, 7])
def test_the_trials_needed_are_the_fewest_that_suffice(events):
    need = trials_needed(0.01, 0.95, events)
    assert upper_bound(events, need) <= 0.01 < upper_bound(events, need - 1)


def test_binomial_intervals_cover_at_least_as_often_as_they_say():
    rng = np.random.default_rng(4)
    for share in (0.002, 0.05, 0.5):
        events = rng.binomial(200, share, 400)
        bounds = {int(k): upper_bound(int(k), 200) for k in set(events)}
        missed = np.mean([bounds[int(k)] < share for k in events])
        assert missed <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_the_bootstrap_resamples_answers_not_tokens():
    trials_S = np.full(50, 100)
    clustered_S = np.where(np.arange(50) < 5, 40, 0)
    spread_S = np.full(50, 4)
    clustered = bootstrap(clustered_S, trials_S, seed=b"x")
    spread = bootstrap(spread_S, trials_S, seed=b"x")
    assert spread.low == spread.high == 0.04
    assert clustered.high - clustered.low > 0.05
    assert clustered == bootstrap(clustered_S, trials_S, seed=b"x")


def test_bursts_make_a_token_worth_less():
    trials_S = np.full(50, 100)
    assert design_effect(np.where(np.arange(50) < 5, 40, 0), trials_S) > 10
    rng = np.random.default_rng(1)
    assert design_effect(rng.binomial(100, 0.04, 50), trials_S) < 2
    assert design_effect(np.zeros(50, np.int64), trials_S) == 1


def test_a_conformal_margin_is_exceeded_as_rarely_as_it_says():
    rng = np.random.default_rng(8)
    exceeded = [
        (rng.exponential(size=100) > conformal_margin(rng.exponential(size=99), 0.1)).mean()
        for _ in range(300)
    ]
    assert np.mean(exceeded) == pytest.approx(0.1, abs=0.01)
    with pytest.raises(SampleTooSmallError) as refusal:
        conformal_margin(np.zeros(98), 0.01)
    assert refusal.value.details["need"] == 99


def test_conformal_p_values_count_ties_against_the_test():
    p_M = conformal_p(np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.5, 2.0]))
    assert p_M.tolist() == [1.0, 0.5, 0.25]


def test_nonsense_is_refused():
    for events, trials, confidence in ((2, 1, 0.9), (-1, 3, 0.9), (0, 0, 0.9), (1, 2, 1.0)):
        with pytest.raises(ConfigError):
            upper_bound(events, trials, confidence)
    with pytest.raises(ConfigError):
        trials_needed(0.0)
    with pytest.raises(ConfigError):
        bootstrap(np.empty(0), np.empty(0, np.int64), seed=b"")
