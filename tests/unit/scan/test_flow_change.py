"""False alarms no more often than stated, shifts found about as soon as stated."""

from __future__ import annotations

import math
import random
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.bench.gate_flow import traffic
from tidegate.errors import ConfigError
from tidegate.scan.flow import Bin, Predictor, fit
from tidegate.scan.flow_change import (
    Cusum,
    EDetector,
    Tuning,
    Watch,
    mean_run,
    observe,
    threshold_for,
    tuned,
)

_PLAIN = Predictor(
    idle=0.0,
    rates=(0.0, 1_000.0, 0.0),
    floor=0.0,
    per_byte=0.0,
    share=0.02**2,
    correlation=0.0,
    bins=1_000,
)
"""1,000 bytes a token, give or take 2% of a bin."""


def _bin(drawn: random.Random, *, added: float = 0.0, tokens: float = 100.0) -> Bin:
    sent = 1_000 * tokens * (1 + added + 0.02 * drawn.gauss(0, 1))
    return Bin(0.0, sent, (0.0, tokens, 0.0))


def _bins_to(detector: str, tuning: Tuning, drawn: random.Random, added: float) -> int:
    watch = Watch(_PLAIN, tuning)
    for count in range(1, 100_000):
        watch, alarms = observe(watch, _bin(drawn, added=added, tokens=drawn.uniform(10, 1_000)))
        if any(alarm.detector == detector for alarm in alarms):
            return count
    raise AssertionError("no alarm at all")


@pytest.mark.parametrize(("reference", "threshold", "known"), [(0.5, 5.0, 930), (0.5, 4.0, 336)])
def test_false_alarms_come_as_the_tables_say(
    reference: float, threshold: float, known: float
) -> None:
    # Brook and Evans, Biometrika 59 (1972), table 1, by Markov chains.
    assert mean_run(-reference, threshold) == pytest.approx(known, rel=0.02)
    assert threshold_for(reference, mean_run(-reference, threshold)) == pytest.approx(threshold)


def test_a_walk_without_drift_has_a_run_between_its_neighbours() -> None:
    assert mean_run(0.01, 5.0) < mean_run(0.0, 5.0) < mean_run(-0.01, 5.0)


def test_two_percent_more_is_found_in_about_thirteen_bins_at_two_percent_noise() -> None:
    tuning = Tuning(shift=1.0, false_alarm_every=3_600.0)
    assert tuning.delay(1.0) == pytest.approx(13, abs=0.1)
    drawn = random.Random(3)
    delays = [_bins_to("cusum", tuning, drawn, 0.02) for _ in range(120)]
    assert statistics.fmean(delays) == pytest.approx(13, abs=1.5)


def test_a_shift_in_the_apis_own_traffic_is_found_while_users_drift() -> None:
    bins = traffic("a test of drifting users", 700, noise=0.02)
    predictor = fit(bins[:400])
    tuning = tuned(predictor, bins[400:550], share=0.02, false_alarm_every=3_600.0)
    watch, alarms = Watch(predictor, tuning), []
    for one in bins[550:]:
        stolen = Bin(one.start, one.sent * 1.02, one.billed)
        watch, raised = observe(watch, stolen)
        alarms += raised
    first = next(alarm for alarm in alarms if alarm.detector == "cusum")
    assert (first.at - bins[550].start) / 60 < 40
    assert first.excess > 0
    assert "billed tokens" in str(first)
    assert any(alarm.detector == "e-detector" for alarm in alarms)


def test_honest_bins_alarm_no_more_often_than_stated() -> None:
    drawn, tuning = random.Random(11), Tuning(false_alarm_every=300.0)
    for detector in ("cusum", "e-detector"):
        runs = [_bins_to(detector, tuning, drawn, 0.0) for _ in range(30)]
        assert statistics.fmean(runs) > 0.7 * 300


def test_the_e_detector_holds_its_rate_where_noise_is_not_normal() -> None:
    """Rare large scores and a mean of at most `allowed`: the CUSUM's table no longer applies."""
    drawn, every = random.Random(12), 200.0
    runs = []
    for _ in range(40):
        state, count = EDetector(), 0
        while state.log_e < math.log(every) and count < 20_000:
            score = 9.0 if drawn.random() < 0.1 else -0.9
            state, count = state.observe(score, 0.1), count + 1
        runs.append(count)
    assert statistics.fmean(runs) > every


@given(st.lists(st.floats(-50, 50), max_size=30))
def test_no_score_ruins_the_e_detector_or_makes_the_cusum_negative(scores: list[float]) -> None:
    bets, walk = EDetector(), Cusum()
    for score in scores:
        bets, walk = bets.observe(score, 0.1), walk.observe(score, score, 0.5)
        assert all(wealth > -math.inf for wealth in bets.log_wealth)
        assert walk.value >= 0


def test_a_watch_goes_on_from_what_was_saved() -> None:
    drawn = random.Random(4)
    watch = Watch(_PLAIN, Tuning())
    for _ in range(5):
        assert msgspec.json.decode(msgspec.json.encode(watch), type=Watch) == watch
        watch, _ = observe(watch, _bin(drawn, added=0.01))


def test_bytes_without_any_bill_alarm_at_once() -> None:
    watch, alarms = observe(Watch(_PLAIN, Tuning()), Bin(9.0, 1e6, (0.0, 0.0, 0.0)))
    assert [alarm.detector for alarm in alarms] == ["cusum"]
    assert (alarms[0].began, alarms[0].since, alarms[0].excess) == (9.0, 1, 1e6)
    assert watch.cusum == Cusum()


def test_what_no_detector_can_do_is_refused() -> None:
    for change in ({"shift": 0.0}, {"false_alarm_every": 1.0}, {"allowed": -3.0}):
        with pytest.raises(ConfigError):
            Tuning(**change)
    with pytest.raises(ConfigError):
        tuned(_PLAIN, [], share=0.02, false_alarm_every=100.0)
