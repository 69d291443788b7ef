"""The closed forms of leaks, against simulation with the product's own noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.sampling.params import SamplingParams
from tidegate.verify.bounds_laws import (
    admissible_bits_bound,
    binary_entropy,
    flagged_rate,
    laplace_floor,
    mean_admissible_bits,
    mismatch_floor,
    mismatch_rate,
    normal_floor,
    position_bits,
)
from tidegate.verify.scores import score_tokens
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws

MARGINS = (0.1, 0.5, 1.5)
POSITIONS = 2_000


def measured_bits(logits_V: np.ndarray, temperature: float) -> np.ndarray:
    logits_TV = np.tile(logits_V.astype(np.float32), (POSITIONS, 1))
    scores = score_tokens(
        logits_TV,
        [0] * POSITIONS,
        SamplingParams(temperature=temperature),
        Draws.along(bytes(range(16)), POSITIONS),
        scoring=Scoring(margins=MARGINS),
    )
    return np.log2(scores.admissible_MT)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_random_strings_reach_the_admissible_bound_and_stay_there(temperature):
    bits_MT = measured_bits(np.zeros(2_000), temperature)
    for bits_T, margin in zip(bits_MT, MARGINS, strict=True):
        bound, error = admissible_bits_bound(margin, temperature), bits_T.std() / POSITIONS**0.5
        assert bits_T.mean() == pytest.approx(bound, abs=4 * error + 0.002)


@pytest.mark.parametrize("shape", ["peaked", "two", "geometric"])
def test_no_prompt_exceeds_the_admissible_bound(shape):
    logits = {
        "peaked": np.where(np.arange(300) == 0, 5.0, 0.0),
        "two": np.where(np.arange(300) < 2, 0.0, -40.0),
        "geometric": -0.2 * np.arange(300),
    }[shape]
    for bits_T, margin in zip(measured_bits(logits, 1.0), MARGINS, strict=True):
        error = bits_T.std() / POSITIONS**0.5
        assert bits_T.mean() <= admissible_bits_bound(margin, 1.0) + 4 * error


def test_the_series_meets_the_logarithm_of_the_mean_far_out():
    near, far = admissible_bits_bound(7.99, 1.0), admissible_bits_bound(8.01, 1.0)
    assert near < far == pytest.approx(8.01 / math.log(2))
    assert admissible_bits_bound(0.0, 1.0) == 0
    assert admissible_bits_bound(0.1, 0.0) == math.inf


def test_a_normal_machines_mismatches_hide_3_27_bits_each():
    assert normal_floor() == pytest.approx(3.27, abs=0.005)
    assert mismatch_floor(0.01) == pytest.approx(0.0327, abs=0.0001)
    assert laplace_floor() == pytest.approx(3.68, abs=0.005)


def test_normal_noise_mismatches_and_flags_as_often_as_predicted():
    rng = np.random.default_rng(6)
    density, sigma, margin = 0.5, 0.03, 0.05
    gap_N = rng.uniform(0, 1 / density, 2_000_000)
    noise_N = rng.normal(0, math.sqrt(2) * sigma, gap_N.size)
    beyond_N = noise_N - gap_N
    assert (beyond_N > 0).mean() == pytest.approx(mismatch_rate(density, sigma), rel=0.03)
    assert (beyond_N > margin).mean() == pytest.approx(
        flagged_rate(density, sigma, margin), rel=0.1
    )
    assert (gap_N <= margin).mean() == pytest.approx(
        mean_admissible_bits(density, margin), rel=0.03
    )


def test_a_noise_matching_sender_says_what_the_floor_says():
    rng = np.random.default_rng(6)
    gap_N = rng.uniform(0, 20, 400_000)
    flip_N = np.array([0.5 * math.erfc(gap / math.sqrt(2)) for gap in gap_N[:40_000]])
    entropy = np.mean([binary_entropy(float(q)) for q in flip_N])
    assert entropy / flip_N.mean() == pytest.approx(normal_floor(), rel=0.05)


def test_positions_of_several_kinds_cost_their_joint_entropy():
    assert position_bits(0.01) == pytest.approx(binary_entropy(0.01))
    assert position_bits(0.25, 0.25) == pytest.approx(1.5)
    assert position_bits() == position_bits(0.0) == binary_entropy(1.0) == 0
    assert position_bits(0.7) == 1.0
