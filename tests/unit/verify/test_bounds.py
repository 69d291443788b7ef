"""Bits add up, nothing that may hide is left out, and time follows from bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.sampling.params import SamplingParams
from tidegate.verify.bounds import (
    Ending,
    Tolerance,
    Traffic,
    counting_bound,
    days_to_exfiltrate,
    most_surprisal,
    point_bound,
    scope_bounds,
    surprisal,
)
from tidegate.verify.calibrate import Mean, Point, Rate
from tidegate.verify.scores import score_tokens
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws

V = 49_152
ENDING = Ending(tokens_a_message=200.0, max_tokens=1024, verified=True)
TOLERANCE = Tolerance(suspicious=0.004, dangerous=0.0001, rank=8, vocab_size=V)


def test_every_place_where_bits_hide_is_added():
    leak = counting_bound(
        0.02, TOLERANCE, Ending(tokens_a_message=200.0, max_tokens=1024, verified=False)
    )
    assert leak.value_bits == 0.02
    assert leak.flagged_bits == pytest.approx(0.004 * 3 + 0.0001 * math.log2(V))
    assert leak.position_bits == pytest.approx(0.0390, abs=0.001)
    assert leak.length_bits == pytest.approx(math.log2(2049) / 200)
    total = leak.value_bits + leak.flagged_bits + leak.position_bits + leak.length_bits
    assert leak.bits_a_token == pytest.approx(total)
    assert leak.share == pytest.approx(total / math.log2(V))
    assert leak.slowdown == pytest.approx(1 / leak.share)


def test_an_exact_machine_with_verified_ends_hides_nothing():
    none = Tolerance(suspicious=0, dangerous=0, rank=1, vocab_size=V)
    leak = counting_bound(0.0, none, ENDING)
    assert leak.bits_a_token == 0
    assert leak.slowdown == math.inf
    assert days_to_exfiltrate(1e9, 0.0) == math.inf


def test_unchecked_tokens_carry_no_more_than_a_token_can():
    everything = Tolerance(suspicious=0.5, dangerous=0.5, rank=V, vocab_size=V)
    assert counting_bound(math.log2(V), everything, ENDING).share == 1


def test_a_calibrated_point_counts_at_its_upper_ends():
    rate = Rate(1, 10_000, 50, 1.0, 0.0, 0.001, 0.0005)
    mean = Mean(0.01, 0.008, 0.013)
    point = Point(0.1, 4, 0.0, 0.0, 0.0, rate, rate, rate, mean, mean)
    leak = point_bound(point, V, ENDING)
    assert leak.value_bits == 0.013
    assert leak.flagged_bits == pytest.approx(0.0005 * (2 + math.log2(V)))


@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("grid", [None, 0.5], ids=["all different", "many ties"])
def test_surprisal_is_a_code_no_set_of_answers_can_beat(top_p, grid):
    rng = np.random.default_rng(7)
    logits_V = rng.normal(0, 1.5, 64)
    logits_V = np.round(logits_V / grid) * grid if grid else logits_V
    scores = score_tokens(
        np.tile(logits_V.astype(np.float32), (64, 1)),
        range(64),
        SamplingParams(top_p=top_p),
        Draws.of([bytes(16)] * 64, [5] * 64),
        scoring=Scoring(margins=(1.0,), sigma=0.2),
    )
    tolerance = Tolerance(suspicious=0.02, dangerous=0.001, rank=4, vocab_size=64)
    bits_T = surprisal(scores, tolerance)
    assert (2.0**-bits_T).sum() <= 1 + 1e-9
    assert scores.share_T[scores.expected_T[0]] == scores.share_T.max()
    assert bits_T.max() <= most_surprisal(tolerance)


def test_the_surprisal_of_honest_noise_lies_near_its_floor_and_below_the_counting_bound():
    rng = np.random.default_rng(3)
    rows, sigma, margin = 6_000, 0.02, 0.12
    logits_TV = rng.normal(0, 2.0, (rows, 40)).astype(np.float32)
    other_TV = (logits_TV + rng.normal(0, sigma, logits_TV.shape)).astype(np.float32)
    draws, params = Draws.along(bytes(16), rows), SamplingParams()
    served_T = score_tokens(other_TV, [0] * rows, params, draws).expected_T
    scores = score_tokens(
        logits_TV, served_T, params, draws, scoring=Scoring(margins=(margin,), sigma=sigma)
    )
    mismatch = float((scores.expected_T != served_T).mean())
    tolerance = Tolerance(suspicious=1e-4, dangerous=1e-5, rank=8, vocab_size=40)
    bits = surprisal(scores, tolerance).mean()
    counted = counting_bound(np.log2(scores.admissible_MT[0]).mean(), tolerance, ENDING)
    assert 2.3 * mismatch < bits < 4.5 * mismatch
    assert bits < counted.bits_a_token


def test_scopes_take_the_smaller_of_cap_and_leak_and_pay_for_the_burst_before_the_alarm():
    leak = counting_bound(0.05, Tolerance(suspicious=0, dangerous=0, rank=1, vocab_size=V), ENDING)
    principal, fleet = scope_bounds(
        leak,
        (
            Traffic(scope="principal", tokens_a_day=1e6, cap_bits_a_day=10_000.0),
            Traffic(scope="fleet", tokens_a_day=1e9, streams=100),
        ),
        weight_bits=16e9 * 8,
        tokens_to_alarm=30,
        sampled=0.1,
    )
    assert principal.bits_a_day == 10_000
    assert fleet.bits_a_day == pytest.approx(5e7)
    assert fleet.before_alarm_bits == pytest.approx(100 * 300 * math.log2(V))
    assert fleet.days == pytest.approx((8e9 - fleet.before_alarm_bits) / 5e7)
    assert principal.days > fleet.days


def test_weights_smaller_than_the_burst_are_gone_at_once():
    leak = counting_bound(0.0, TOLERANCE, ENDING)
    (row,) = scope_bounds(
        leak,
        (Traffic(scope="fleet", tokens_a_day=1e6),),
        weight_bits=1e3,
        tokens_to_alarm=30,
        sampled=1.0,
    )
    assert row.days == 0


def test_nonsense_is_refused():
    with pytest.raises(ConfigError):
        Tolerance(suspicious=0.9, dangerous=0.2, rank=1, vocab_size=V)
    with pytest.raises(ConfigError):
        Tolerance(suspicious=0.1, dangerous=0.2, rank=0, vocab_size=V)
    with pytest.raises(ConfigError):
        days_to_exfiltrate(0, 1)
    with pytest.raises(ConfigError):
        scope_bounds(
            counting_bound(0, TOLERANCE, ENDING),
            (),
            weight_bits=1,
            tokens_to_alarm=1,
            sampled=0,
        )
