"""What the bill explains is subtracted, and what is left over is what a thief adds."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ConfigError
from tidegate.scan.flow import UNITS, Bin, fit


def _bins(count: int, *, noise: float = 0.01, name: int = 1) -> list[Bin]:
    """Bins that hold 500 + 300·answers + 4·tokens + 250·events bytes, give or take."""
    drawn = random.Random(name)
    bins = []
    for minute in range(count):
        answers = drawn.randint(5, 200)
        tokens = sum(drawn.randint(20, 400) for _ in range(answers))
        events = round(tokens * drawn.uniform(0.2, 0.9))
        sent = 500 + 300 * answers + 4 * tokens + 250 * events
        sent *= 1 + noise * drawn.gauss(0, 1)
        bins.append(Bin(60.0 * minute, sent, (answers, tokens, events)))
    return bins


def test_rates_are_found_and_scores_have_unit_variance() -> None:
    predictor = fit(_bins(2_000))
    _, per_token, per_event = predictor.rates
    assert per_token == pytest.approx(4, abs=1.5)
    assert per_event == pytest.approx(250, rel=0.05)
    scores = [predictor.score(one) for one in _bins(2_000, name=2)]
    assert sum(scores) / len(scores) == pytest.approx(0, abs=0.1)
    assert sum(score**2 for score in scores) / len(scores) == pytest.approx(1, abs=0.15)
    assert abs(predictor.correlation) < 0.1


def test_rates_and_variances_are_never_negative() -> None:
    drawn = random.Random(5)
    bins = [
        Bin(float(n), 1e6 - 10 * n, (float(n), drawn.random() * 10, drawn.random()))
        for n in range(200)
    ]
    predictor = fit(bins)
    assert min(predictor.idle, *predictor.rates) >= 0
    assert min(predictor.floor, predictor.per_byte, predictor.share) >= 0


def test_a_link_that_carried_nothing_but_its_bill_still_has_a_spread() -> None:
    bins = [Bin(float(n), 10.0 * n, (0.0, float(n), 0.0)) for n in range(100)]
    predictor = fit(bins)
    assert predictor.spread(bins[0]) > 0
    assert math.isfinite(predictor.score(Bin(0.0, 1e9, (0.0, 0.0, 0.0))))


def test_too_little_to_calibrate_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="too few"):
        fit(_bins(10))
    with pytest.raises(ConfigError, match="nothing was billed"):
        fit([Bin(float(n), 100.0, (0.0,) * len(UNITS)) for n in range(100)])


@given(st.sampled_from([-1.0, math.nan, math.inf]), st.integers(0, len(UNITS)))
def test_a_bin_with_impossible_amounts_is_refused(amount: float, place: int) -> None:
    amounts = [1.0] * (len(UNITS) + 1)
    amounts[place] = amount
    with pytest.raises(ConfigError):
        Bin(0.0, amounts[0], tuple(amounts[1:]))
    with pytest.raises(ConfigError):
        Bin(0.0, 1.0, (1.0,))
