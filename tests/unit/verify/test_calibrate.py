"""A profile counts on answers it was not fitted on, and refuses what they cannot carry."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.sampling.params import SamplingParams
from tidegate.verify.calibrate import (
    HonestAnswer,
    NoiseProfile,
    Provenance,
    Stack,
    alarm_point,
    held_out,
    measure,
    operating_point,
)
from tidegate.verify.calibrate_intervals import SampleTooSmallError
from tidegate.verify.scores import score_tokens
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws

MARGINS = (0.02, 0.1, 0.4)
SIGMA = 0.02
PARAMS = SamplingParams(top_p=0.95)
STACK = Stack(model="ab" * 32, engine="e", dtype="bfloat16", batch="8", hardware="h", numerics="n")


def answers(count: int = 60, tokens: int = 50, sigma: float = SIGMA) -> list[HonestAnswer]:
    """Served by a machine whose logits differ by normal noise."""
    rng = np.random.default_rng(12)
    found = []
    for n in range(count):
        seed = bytes(rng.integers(0, 256, 16, dtype=np.uint8))
        logits_TV = rng.normal(0, 3, (tokens, 60)).astype(np.float32)
        other_TV = (logits_TV + rng.normal(0, sigma, logits_TV.shape)).astype(np.float32)
        draws, scoring = Draws.along(seed, tokens), Scoring(margins=MARGINS)
        served_T = score_tokens(other_TV, [0] * tokens, PARAMS, draws).expected_T
        scores = score_tokens(logits_TV, served_T, PARAMS, draws, scoring=scoring)
        found.append(HonestAnswer(f"answer {n}", served_T, scores))
    return found


def profile(honest: list[HonestAnswer]) -> NoiseProfile:
    return measure(
        honest,
        margins=MARGINS,
        ranks=(4, 16),
        served=STACK,
        verifier=STACK,
        sampling="top_p 0.95",
        vocab_size=60,
        provenance=Provenance(command="c", version="0", prompts="p", made=0.0, split_seed="00"),
        seed=b"split",
    )


@pytest.fixture(scope="module")
def measured() -> NoiseProfile:
    return profile(answers())


def test_no_answer_is_in_both_halves(measured):
    assert measured.sequences + measured.calibration_sequences == 60
    held = {f"answer {n}" for n in range(60) if held_out(f"answer {n}", b"split")}
    assert len(held) == measured.sequences
    assert 15 < len(held) < 45


def test_noise_is_recovered(measured):
    assert measured.sigma == pytest.approx(SIGMA, rel=0.5)
    assert 0.0005 < measured.mismatch.share < 0.03
    assert measured.mismatch.low <= measured.mismatch.share <= measured.mismatch.high


def test_wider_margins_flag_less_and_admit_more(measured):
    points = [point for point in measured.points if point.rank == 4]
    assert [point.margin for point in points] == list(MARGINS)
    flagged = [point.flagged.share for point in points]
    assert flagged == sorted(flagged, reverse=True)
    bits = [point.value_bits.value for point in points]
    assert bits == sorted(bits)
    assert all(point.value_bits.value >= point.plain_bits.value for point in points)
    assert points[-1].flagged.events == 0


def test_a_profile_survives_a_round_trip_without_infinities(measured):
    body = measured.encode()
    assert NoiseProfile.decode(body) == measured
    assert b"NaN" not in body
    assert b"Infinity" not in body
    for broken in (b"{}", body[:-3], b"\xff", body.replace(b'"version":1', b'"version":9', 1)):
        with pytest.raises(ConfigError):
            NoiseProfile.decode(broken)


def test_a_claim_the_held_out_half_cannot_carry_is_refused_with_the_number_needed(measured):
    with pytest.raises(SampleTooSmallError) as refusal:
        operating_point(measured, flagged=0.01, dangerous=1e-4)
    assert refusal.value.details["need"] == 29_956
    point = operating_point(measured, flagged=0.02, dangerous=0.01)
    assert point.flagged.upper <= 0.02
    with pytest.raises(ConfigError, match="no measured margin"):
        operating_point(
            msgspec.structs.replace(measured, points=measured.points[:1]),
            flagged=1e-6,
            dangerous=1e-6,
        )


def test_alarms_go_by_the_narrowest_margin_that_honest_tokens_kept_within(measured):
    point = alarm_point(measured, 4)
    assert (point.rank, point.fitted_flagged) == (4, 0)
    narrower = [p for p in measured.points if p.rank == 4 and p.margin < point.margin]
    assert all(p.fitted_flagged > 0 for p in narrower)
    loud = [msgspec.structs.replace(p, fitted_flagged=0.1) for p in measured.points]
    restless = msgspec.structs.replace(measured, points=tuple(loud))
    assert alarm_point(restless, 4).margin == max(MARGINS)


def test_a_quiet_machine_has_no_sigma_and_no_bursts():
    quiet = profile(answers(count=20, tokens=20, sigma=0.0))
    assert quiet.mismatch.events == 0
    assert quiet.sigma is None
    assert quiet.burst is None
    assert quiet.mismatch.upper == pytest.approx(1 - 0.05 ** (1 / quiet.tokens))


def test_too_few_or_repeated_answers_are_refused():
    honest = answers(count=2, tokens=5)
    with pytest.raises(SampleTooSmallError):
        profile(honest[:1])
    with pytest.raises(ConfigError, match="twice"):
        profile([*honest, honest[0]])


def test_quantiles_that_the_sample_cannot_place_are_left_open(measured):
    quantiles = dict(measured.quantiles)
    assert quantiles[0.5] == 0.0
    assert quantiles[0.9999] is None
    assert all(value is None or math.isfinite(value) for value in quantiles.values())
