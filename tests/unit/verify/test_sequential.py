"""Alarms come as rarely as promised while all are honest, and soon when somebody is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.verify.sequential import (
    Counts,
    Null,
    Wager,
    merge_product,
    observe,
    tokens_to_alarm,
)
from tidegate.verify.sequential_mean import MeanWager, observe_mean, upper_mean

FP32 = Null(0.001, 0.0001)
BF16 = Null(0.01, 0.0005)
ALPHA = 1e-6


def token(tier: int) -> Counts:
    return Counts(*(int(tier == n) for n in range(3)))


def stops(null, rates, threshold, length, runs, seed):
    """How many tokens each run needs to reach 1 / threshold; `length` where it never does."""
    rng = np.random.default_rng(seed)
    payoffs_JK = np.array(
        [np.array(observe(Wager(), null, token(tier)).log_wealth) for tier in range(3)]
    ).T
    tiers_RN = rng.choice(3, (runs, length), p=[1 - sum(rates), *rates])
    wealth_RNJ = np.cumsum(payoffs_JK.T[tiers_RN], axis=1)
    log_e_RN = np.logaddexp.reduce(wealth_RNJ, axis=2) - math.log(payoffs_JK.shape[0])
    over_RN = log_e_RN >= -math.log(threshold)
    return np.where(over_RN.any(axis=1), over_RN.argmax(axis=1) + 1, length)


@pytest.mark.parametrize("null", [FP32, BF16, Null(0.2, 0.1)])
def test_every_bet_is_fair_at_the_honest_rates_and_worse_below_them(null):
    gains = np.array(
        [np.exp(np.array(observe(Wager(), null, token(tier)).log_wealth)) for tier in range(3)]
    )
    rates = np.array([1 - null.suspicious - null.dangerous, null.suspicious, null.dangerous])
    np.testing.assert_allclose(rates @ gains, 1.0)
    fewer = np.array([1 - null.suspicious / 2, null.suspicious / 2, 0.0])
    assert (fewer @ gains <= 1 + 1e-12).all()


def test_honest_streams_alarm_no_more_often_than_promised_however_often_one_looks():
    null = Null(0.05, 0.02)
    alarmed = stops(null, (0.05, 0.02), 0.05, 800, 400, seed=1) < 800
    assert alarmed.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert alarmed.mean() > 0


@pytest.mark.parametrize(
    ("null", "fraction", "most"),
    [(FP32, 0.6, 30), (BF16, 0.6, 30), (FP32, 0.06, 300), (BF16, 0.06, 600)],
)
def test_cheats_are_found_in_time(null, fraction, most):
    """About 60% of stego tokens differ from the honest ones, nine in ten with a small rank."""
    rates = (fraction * 0.9, fraction * 0.1)
    needed = stops(null, rates, ALPHA, 1_200, 200, seed=2)
    assert np.median(needed) <= most
    predicted = tokens_to_alarm(null, fraction, 0.9, ALPHA)
    assert np.median(needed) == pytest.approx(predicted, rel=0.6, abs=4)


def test_the_order_and_batching_of_tokens_do_not_matter():
    one = observe(Wager(), BF16, Counts(20, 3, 1))
    many = Wager()
    for tier in [0] * 10 + [2] + [1] * 3 + [0] * 10:
        many = observe(many, BF16, token(tier))
    assert many.seen == one.seen == Counts(20, 3, 1)
    assert many.log_e == pytest.approx(one.log_e)


def test_streams_of_different_stacks_share_one_wager():
    mixed = observe(observe(Wager(), FP32, Counts(100)), BF16, Counts(100, 2))
    assert mixed.seen.tokens == 202
    assert math.isfinite(mixed.log_e)


def test_products_add_logs():
    logs = [0.0, math.log(9.0), math.log(0.5)]
    assert math.exp(merge_product(logs)) == pytest.approx(4.5)


def test_no_number_of_tokens_finds_what_looks_honest():
    assert tokens_to_alarm(BF16, 0.0, 1.0, ALPHA) == math.inf


def test_a_null_has_room_for_honesty():
    for rates in ((0.0, 0.1), (0.1, 0.0), (0.6, 0.5), (math.nan, 0.1)):
        with pytest.raises(ConfigError):
            Null(*rates)


def bursts(rng, answers):
    """Honest answers: one in fifty is odd and mismatches on every second token."""
    return np.where(rng.random(answers) < 0.02, 0.5, 0.0)


def test_bursts_fool_the_token_test_but_not_the_answers_mean():
    rng = np.random.default_rng(5)
    token_alarms = mean_alarms = 0
    for _ in range(40):
        values_S = bursts(rng, 100)
        wager, mean = Wager(), MeanWager(0.012)
        token_hit = mean_hit = False
        for value in values_S:
            wager = observe(
                wager, Null(0.012, 1e-6), Counts(int(40 * (1 - value)), int(40 * value))
            )
            mean = observe_mean(mean, np.array([value]))
            token_hit |= wager.log_e >= math.log(100)
            mean_hit |= mean.log_e >= math.log(100)
        token_alarms += token_hit
        mean_alarms += mean_hit
    assert token_alarms > 8
    assert mean_alarms <= 2


def test_the_answers_mean_finds_a_cheat():
    values_S = np.random.default_rng(0).binomial(50, 0.06, 200) / 50
    wager = observe_mean(MeanWager(0.012), values_S)
    assert wager.answers == 200
    assert wager.log_e >= -math.log(ALPHA)


def test_the_bound_on_a_mean_holds_at_every_time_at_once():
    rng = np.random.default_rng(7)
    broken = 0
    for _ in range(80):
        values_S = bursts(rng, 300)
        broken += any(upper_mean(values_S[:n], 0.1) < 0.01 for n in (50, 300))
    assert broken / 80 <= 0.1 + 3 * math.sqrt(0.09 / 80)


def test_the_bound_on_a_mean_is_tight_when_nothing_happens():
    assert upper_mean(np.zeros(1_000), 0.05) == pytest.approx(
        (math.log(20) + math.log(12)) / 1_000, rel=0.2
    )
    assert upper_mean(np.full(5, 3.0), 0.05, most=4.0) == 4.0
    for values, most in (([2.0], 1.0), ([math.nan], 1.0), ([], 1.0), ([-0.1], 1.0)):
        with pytest.raises(ConfigError):
            upper_mean(np.array(values), 0.05, most)
