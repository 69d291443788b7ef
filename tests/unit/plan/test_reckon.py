"""Answers: quantiles, caps, swings, cost, comparisons."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from plan_scenarios import between, given, packaged, small

from tidegate.plan import caps, reckon, simulate
from tidegate.plan.answer import Answer
from tidegate.plan.scenario import Scenario

LIVES = 500


def _answer(scenario: Scenario, seed: int = 0) -> Answer:
    return reckon.answer(scenario, version="0", lifetimes=LIVES, seed=seed, curves=False)


def test_the_same_seed_gives_the_same_answer_and_another_does_not() -> None:
    first, again, other = (simulate.run(small(), 200, seed=seed).days_N for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_more_lifetimes_begin_with_the_same_ones() -> None:
    few, many = (simulate.run(small(), count).days_N for count in (100, 9_000))
    assert (many[:100] == few).all()


def test_the_median_and_its_interval_are_those_of_the_open_value() -> None:
    # Days go with 1 / packing, which is even between 4, 16 and 100 on a scale of factors.
    scenario = given(small(), traffic__tokens=1e7)
    days_N = simulate.run(scenario, 20_000).days_N
    base = caps.days_at(scenario)
    expected = [base * (16 / 100) ** 0.9, base, base * (16 / 4) ** 0.9]
    assert np.quantile(days_N, [0.05, 0.5, 0.95]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("wanted", [10.0, 100.0, 5000.0])
def test_a_cap_buys_the_days_asked_for_and_no_larger_one_does(wanted: float) -> None:
    row = caps.cap_for(small(), wanted)
    assert row.cap_bits_a_day is not None
    held = caps.days_at(caps.capped(small(), row.cap_bits_a_day))
    looser = caps.days_at(caps.capped(small(), row.cap_bits_a_day * 1.01))
    assert looser < wanted <= held
    assert row.cap_bits_a_day == pytest.approx(1e9 / wanted, rel=1e-3)
    assert row.honest_share == pytest.approx(row.cap_bits_a_day / 2e7)


def test_a_sure_cap_is_no_larger_than_one_for_the_values_themselves() -> None:
    row = caps.cap_for(small(), 100.0)
    assert row.sure_cap_bits_a_day is not None
    assert row.cap_bits_a_day is not None
    assert row.sure_cap_bits_a_day < row.cap_bits_a_day
    lived = simulate.run(caps.capped(small(), row.sure_cap_bits_a_day), caps.SKETCH)
    assert (lived.days_N >= 100.0).mean() >= 0.95


def test_where_re_execution_alone_lasts_any_cap_will_do() -> None:
    verified = given(
        small(),
        verification__audit_rate=1.0,
        verification__residual=0.0,
        link__unnoticed_failures=0.0,
    )
    assert caps.cap_for(verified, 30.0).cap_bits_a_day is None


def test_a_residual_is_named_that_buys_the_days_under_the_scenarios_own_cap() -> None:
    verified = given(small(), verification__audit_rate=1.0, verification__residual=0.5)
    row = caps.cap_for(verified, 1000.0)
    assert row.residual == pytest.approx(1e9 / 1000 / (16 * 1e7), rel=1e-3)
    assert caps.cap_for(small(), 1000.0).residual is None


def test_swings_are_sorted_and_leave_all_other_values_alone() -> None:
    told = reckon.swings(small())
    assert [row.name for row in told][:2] == ["attacker.lossy_compression", "traffic.tokens"]
    packing = told[0]
    base = caps.days_at(small())
    assert packing.days_at_low == pytest.approx(base * 16 / 4)
    assert packing.days_at_high == pytest.approx(base * 16 / 100)


def test_the_cost_adds_up() -> None:
    scenario = given(
        small(),
        verification__audit_rate=0.2,
        cost__verify_over_generate=0.5,
        cost__link_slowdown=0.2,
        cost__price=3.0,
    )
    cost = reckon.cost(scenario)
    assert cost.verify_share == pytest.approx(0.1)
    assert cost.link_share == pytest.approx(0.25)
    assert cost.usd_a_day == pytest.approx(3.0 * 10 * 0.35)
    assert cost.refused_share == 0.0


def test_a_fixed_cap_under_growth_refuses_what_lies_above_it() -> None:
    fixed = given(caps.capped(small(), 2e7), traffic__growth=4.0)
    g = math.log(4) / 365
    honest = 2e7 * (math.exp(g * 365) - 1) / g
    assert reckon.cost(fixed).refused_share == pytest.approx(1 - 2e7 * 365 / honest)


def test_the_shares_within_its_life_count_days_not_later_than_its_end() -> None:
    scenario = given(small(), model__lifetime=40.0)
    lived = simulate.run(scenario, LIVES)
    assert _answer(scenario).within_life == pytest.approx((lived.days_N <= 40).mean())
    opened = scenario.having(model__lifetime=between(0.001, 0.002, 0.003))
    assert _answer(opened).within_life == 0.0


def test_never_is_absent_in_json_and_no_number() -> None:
    never = given(small(), model__rotation=0.5)
    answer = reckon.answer(never, version="0", lifetimes=200)
    told = json.loads(answer.json())
    assert told["days"]["p50"] is None
    assert told["point"]["days"] is None
    assert told["never"] == 1.0
    assert told["curves"]["chance_x"] == []


def test_curves_go_the_way_they_must() -> None:
    curves = reckon.answer(small(), version="0", lifetimes=500).curves
    assert curves is not None
    for band, falls in ((curves.cap, True), (curves.packing, False), (curves.fan, False)):
        for low, mid, high in zip(band.p5, band.p50, band.p95, strict=True):
            assert low is not None
            assert mid is not None
            assert high is not None
            assert low <= mid <= high
        ordered = sorted(band.p50, reverse=falls, key=lambda value: value or 0.0)
        assert list(band.p50) == ordered


def test_a_comparison_is_on_the_same_draws() -> None:
    half = given(small(), attacker__share_of_traffic=0.5)
    told = reckon.compare(small(), half, version="0", lifetimes=500, curves=False)
    assert told.ratio.p5 == pytest.approx(2.0)
    assert told.ratio.p95 == pytest.approx(2.0)
    assert told.b_later == 1.0
    assert told.differs == ("attacker.share_of_traffic",)


def test_the_sample_that_finds_a_share_is_the_least_that_does() -> None:
    n = reckon.needed(0.01, 0.99)
    assert n is not None
    assert 1 - 0.99**n >= 0.99 > 1 - 0.99 ** (n - 1)
    assert reckon.needed(0.0, 0.99) is None
    assert reckon.needed(1.0, 0.99) == 1


def test_before_and_after_differ_by_what_the_defence_buys() -> None:
    shipped = packaged()
    before, after = (caps.days_at(shipped[name]) for name in ("frontier-before", "frontier"))
    assert after > 100 * before
