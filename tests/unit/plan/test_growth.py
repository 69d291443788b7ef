"""Bits that leave under growth and a ceiling, beside sums done step by step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.plan.growth import days, days_within, total

RATES = st.floats(1e-3, 1e9)
GROWTHS = st.one_of(st.just(0.0), st.floats(-0.02, 0.02))
CEILINGS = st.one_of(st.just(float("inf")), RATES)


def _one(value: float) -> np.ndarray:
    return np.array([value])


@given(RATES, CEILINGS, GROWTHS, st.floats(0.1, 2000))
def test_the_sum_is_that_of_small_steps(
    first: float, ceiling: float, g: float, until: float
) -> None:
    t = np.linspace(0, until, 4001)
    stepped = np.trapezoid(np.minimum(ceiling, first * np.exp(g * t)), t)
    assert total(_one(until), _one(first), _one(ceiling), _one(g))[0] == pytest.approx(
        stepped, rel=1e-3
    )


@given(RATES, CEILINGS, GROWTHS, st.floats(0.1, 2000))
def test_days_undo_the_sum(first: float, ceiling: float, g: float, until: float) -> None:
    bits = total(_one(until), _one(first), _one(ceiling), _one(g))
    after = days(bits, _one(first), _one(ceiling), _one(g))
    again = total(after, _one(first), _one(ceiling), _one(g))
    assert again[0] == pytest.approx(bits[0], rel=1e-6)


def test_shrinking_traffic_never_reaches_more_than_it_sums_to() -> None:
    # 100 bits a day, halved every ln 2 / 0.01 days, sum to 10,000 in all time.
    assert days(_one(9_999.0), _one(100.0), _one(np.inf), _one(-0.01))[0] < np.inf
    assert days(_one(10_001.0), _one(100.0), _one(np.inf), _one(-0.01))[0] == np.inf


def test_nothing_a_day_takes_for_ever() -> None:
    assert days(_one(1.0), _one(0.0), _one(np.inf), _one(0.01))[0] == np.inf
    assert days(_one(1.0), _one(5.0), _one(0.0), _one(0.01))[0] == np.inf


def test_a_window_that_is_too_short_for_steady_traffic_always_is() -> None:
    never = days_within(_one(100.0), _one(1.0), _one(np.inf), _one(0.0), _one(99.0))
    enough = days_within(_one(100.0), _one(1.0), _one(np.inf), _one(0.0), _one(100.0))
    assert never[0] == np.inf
    assert enough[0] == pytest.approx(100.0)


def test_growing_traffic_fills_a_later_window_exactly() -> None:
    g, window = 0.01, 30.0
    took = days_within(_one(100.0), _one(1.0), _one(np.inf), _one(g), _one(window))[0]
    assert took > window
    within = total(_one(took), _one(1.0), _one(np.inf), _one(g)) - total(
        _one(took - window), _one(1.0), _one(np.inf), _one(g)
    )
    assert within[0] == pytest.approx(100.0, rel=1e-6)


def test_a_ceiling_below_what_a_window_needs_holds_for_ever() -> None:
    took = days_within(_one(100.0), _one(1.0), _one(3.0), _one(0.01), _one(30.0))
    assert took[0] == np.inf
