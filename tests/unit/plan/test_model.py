"""What a thief can do, held to arithmetic that fits on an envelope."""

from __future__ import annotations

import math

import numpy as np
import pytest
from plan_scenarios import given, packaged, small

from tidegate.plan import caps, model, reckon, simulate
from tidegate.plan.answer import Strategy
from tidegate.plan.scenario import Scenario
from tidegate.redteam.attacks import ATTACKS

# 1e9 parameters of 16 bits, packed 16 times; 1e7 tokens a day.
LOOT = 1e9
TOKENS = 1e7


def _rows(scenario: Scenario) -> dict[str, Strategy]:
    return {row.name: row for row in reckon.strategies(scenario)}


def _checked(**values: float) -> Scenario:
    """Every token re-executed on the exact engine, flags never wrong."""
    base = {"verification__audit_rate": 1.0, "verification__residual": 0.0}
    return given(small(), verification__detection_power=1.0, **(base | values))


def test_unverified_all_that_the_cap_lets_out_is_his() -> None:
    told = reckon.point(small())
    assert told.cap_bits_a_day == pytest.approx(3e7)
    assert told.days == pytest.approx(LOOT / 3e7)
    assert told.binds == "the cap"


def test_without_a_tight_cap_tokens_say_no_more_than_their_raw_bits() -> None:
    told = reckon.point(given(small(), link__headroom=100.0))
    assert told.days == pytest.approx(LOOT / (16 * TOKENS))
    assert told.binds == "how many tokens are served"


def test_what_re_execution_lets_pass_is_its_share_of_raw_bits() -> None:
    told = reckon.point(_checked(verification__residual=0.005))
    assert told.days == pytest.approx(LOOT / (0.005 * 16 * TOKENS))
    assert told.binds == "what re-execution lets pass"


def test_free_choices_have_to_fit_into_headroom_and_failures() -> None:
    # A free token costs 14 bits more than the 2 of an honest one; 51% of 2 bits are to be had.
    rows = _rows(_checked())
    fitting = [row.duty for row in rows.values() if row.duty and row.fits]
    assert max(fitting) <= 0.51 * 2 / 14 < max(fitting) * 10**0.25


def test_full_coding_fits_once_the_cap_lies_far_above_honest_use() -> None:
    assert _rows(_checked(link__headroom=7.0))["full_stego"].fits
    assert "full_stego" not in _rows(_checked(link__headroom=6.0))


def test_an_exact_verifier_catches_a_duty_cycle_after_its_first_drawn_token() -> None:
    tokens = model.tokens_to_alarm(simulate.values_at(_checked()), 0.01)
    assert tokens[0] == pytest.approx(100.0)


def test_honest_flags_hide_small_duty_cycles_by_the_square() -> None:
    v = simulate.values_at(_checked(verification__honest_flags=0.01))
    few, fewer = (model.tokens_to_alarm(v, duty)[0] for duty in (1e-4, 1e-5))
    assert fewer / few == pytest.approx(100, rel=0.05)


def test_alarms_cost_him_his_absences() -> None:
    row = _rows(_checked(attacker__return=10.0))["duty_0.01"]
    bits_a_day = 16 * TOKENS * 0.01
    there = LOOT / bits_a_day
    assert row.days_there == pytest.approx(there)
    assert row.alarms == pytest.approx(there * TOKENS / 100)
    assert row.days == pytest.approx(there + 10 * row.alarms)


def test_a_thief_who_sends_everything_is_seen_as_soon_as_somebody_acts() -> None:
    row = _rows(given(_checked(), response__notice=0.5, attacker__return=20.0))["thief"]
    there = LOOT / 3e7
    assert row.alarms == pytest.approx(there / 0.5)
    assert row.days == pytest.approx(there + 20 * there / 0.5)


def test_nobody_acts_where_all_answers_may_fail_unnoticed() -> None:
    row = _rows(given(_checked(), link__unnoticed_failures=1.0))["thief"]
    assert row.alarms == 0


def test_failing_says_where_unnoticed_failures_end() -> None:
    row = _rows(given(_checked(), traffic__answer_tokens=255.0, link__unnoticed_failures=0.02))
    assert row["failing"].bits_a_day == pytest.approx(TOKENS / 255 * 0.02 * 8)


def test_what_stays_inside_does_not_leave() -> None:
    outside = reckon.point(
        given(
            small(),
            traffic__reasoning_inside=0.5,
            traffic__drafts=4.0,
            zones__internal_share=0.4,
            zones__internal_escapes=0.25,
        )
    ).tokens_a_day
    assert outside == pytest.approx(TOKENS / 4 * 0.5 * (0.6 + 0.4 * 0.25))


def test_rotation_sooner_than_the_loot_is_whole_keeps_him_for_ever() -> None:
    days = LOOT / 3e7
    assert reckon.point(given(small(), model__rotation=days * 0.99)).binds.startswith("rotation")
    assert caps.days_at(given(small(), model__rotation=days * 1.01)) == pytest.approx(days)


def test_half_the_machines_take_twice_the_days() -> None:
    half = given(small(), attacker__share_of_traffic=0.5)
    assert caps.days_at(half) == pytest.approx(2 * caps.days_at(small()))


def test_growth_brings_the_day_nearer_as_its_integral_says() -> None:
    scenario = given(small(), traffic__growth=4.0)
    g = math.log(4) / 365
    assert caps.days_at(scenario) == pytest.approx(math.log1p(g * LOOT / 3e7) / g)


def test_every_attack_of_the_red_team_through_tokens_has_a_strategy_or_none_to_bound() -> None:
    bounded = {name for names in model.STANDS_FOR.values() for name in names}
    # These serve something else than was promised, or are sampled alike; nothing is sent.
    silent = {attack.name for attack in ATTACKS if not attack.listens}
    others = {attack.name for attack in ATTACKS} - bounded - silent
    assert others <= {"colour_list"}


@pytest.mark.parametrize("name", sorted(packaged()))
def test_simulated_without_open_values_or_alarms_days_are_the_closed_forms(name: str) -> None:
    pinned = packaged()[name].pinned()
    told = reckon.point(pinned)
    lived = simulate.run(pinned, 64)
    if told.strategy in ("quiet", "failing") or told.binds == "the cap":
        assert np.allclose(lived.days_N, caps.days_at(pinned))
    assert np.allclose(lived.copies_N, told.copies)


@pytest.mark.parametrize("notice", [0.05, 3.0, 30.0])
def test_simulated_alarms_have_the_mean_of_the_closed_form(notice: float) -> None:
    lucky = given(packaged()["smollm2-demo"].pinned(), response__notice=notice)
    assert reckon.point(lucky).strategy == "thief"
    there = _rows(lucky)["thief"].days_there or 0.0
    lived = simulate.run(lucky, 40_000)
    assert lived.days_N.mean() == pytest.approx(caps.days_at(lucky), rel=0.02)
    caught = there / notice
    assert lived.days_N.var() == pytest.approx(30**2 * caught, rel=0.05)
    # No alarm at all: the one chance that a single number shows.
    assert (lived.days_N <= there + 1e-6).mean() == pytest.approx(math.exp(-caught), abs=0.01)
