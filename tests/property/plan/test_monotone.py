"""Ways in which an answer may only move, whatever the scenario: pathwise, not on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from plan_scenarios import given, packaged, small

from tidegate.plan import caps, reckon, simulate
from tidegate.plan.fields import FIELDS
from tidegate.plan.scenario import Scenario, exactly

NAMES = sorted(packaged())
LIVES = 96
SLACK = 1e-9


def _scenarios() -> st.SearchStrategy[Scenario]:
    """Packaged scenarios, verified more or less, growing, shrinking or rotating."""
    return st.builds(
        _varied,
        st.sampled_from(NAMES),
        st.sampled_from([0.2, 1.0, 5.0]),
        st.sampled_from([0.0, 0.01, 1.0]),
        st.sampled_from([0.0, 1e-4, 0.02]),
        st.sampled_from([0.0, 0.01, 0.3]),
    )


def _varied(name: str, growth: float, audits: float, flags: float, residual: float) -> Scenario:
    return given(
        packaged()[name],
        traffic__growth=growth,
        verification__audit_rate=audits,
        verification__honest_flags=flags,
        verification__residual=residual if audits else 1.0,
    )


def _days(scenario: Scenario) -> np.ndarray:
    return simulate.run(scenario, LIVES).days_N


def _never_sooner(later: np.ndarray, sooner: np.ndarray) -> None:
    assert (later >= sooner * (1 - SLACK)).all()


@settings(max_examples=40, deadline=None)
@over(_scenarios(), st.floats(-2, 2), st.floats(0, 2))
def test_more_cap_never_means_more_days(scenario: Scenario, at: float, more: float) -> None:
    cap = reckon.point(scenario).cap_bits_a_day * 10**at
    pinned = scenario.pinned()
    closed = [caps.days_at(caps.capped(pinned, cap * by)) for by in (1.0, 10**more)]
    assert closed[1] <= closed[0] * (1 + SLACK)


@settings(max_examples=40, deadline=None)
@over(_scenarios(), st.sampled_from([n for n, f in FIELDS.items() if f.threat]), st.data())
def test_what_helps_the_thief_never_gives_him_more_days(
    scenario: Scenario, name: str, data: st.DataObject
) -> None:
    field = FIELDS[name]
    if field.optional and name not in scenario.values:
        return
    most = field.most if field.most < float("inf") else 1e15
    least = max(field.least, 1e-6)
    now = scenario.at(name)
    other = data.draw(st.floats(min(least, most), min(most, max(now * 100, least))))
    low, high = sorted((now, other))
    ends = [scenario.having(**{name.replace(".", "__"): exactly(x, "")}) for x in (low, high)]
    fewer, more = (caps.days_at(end) for end in ends)
    if field.threat > 0:
        assert more <= fewer * (1 + SLACK)
    else:
        assert more >= fewer * (1 - SLACK)


@settings(max_examples=25, deadline=None)
@over(_scenarios(), st.floats(1.0, 5.0))
def test_larger_weights_never_leave_sooner_in_any_lifetime(scenario: Scenario, by: float) -> None:
    parameters = scenario.at("model.parameters")
    pinned = given(scenario, model__parameters=parameters)
    larger = given(scenario, model__parameters=parameters * by)
    without_luck = [each.having(response__notice=exactly(1e9, "")) for each in (pinned, larger)]
    _never_sooner(_days(without_luck[1]), _days(without_luck[0]))


@settings(max_examples=25, deadline=None)
@over(_scenarios())
def test_the_best_strategy_is_no_later_than_any_other(scenario: Scenario) -> None:
    best = caps.days_at(scenario)
    days = [row.days for row in reckon.strategies(scenario) if row.days is not None]
    assert best == pytest.approx(min(days, default=np.inf))


@settings(max_examples=25, deadline=None)
@over(st.floats(1e-3, 1e3), st.floats(1, 100))
def test_days_scale_with_the_loot_and_against_the_cap(by: float, packing: float) -> None:
    base = given(small(), attacker__lossy_compression=packing)
    scaled = given(base, traffic__tokens=1e7 * by)
    assert caps.days_at(scaled) == pytest.approx(caps.days_at(base) / by)
