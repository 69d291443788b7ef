"""Rhythms and sums: what single connections do not show."""

from __future__ import annotations

import random

import pytest

from tidegate.errors import ConfigError
from tidegate.scan.flow_views import (
    DAY,
    HOUR,
    BeaconLimits,
    Connection,
    DripLimits,
    beacons,
    chance,
    drips,
    peers,
)


def _at(start: float, sent: int = 100, *, to: str = "203.0.113.9", duration: float = 0.0):
    return Connection(start, duration, "tcp", "10.0.0.5", 4000, to, 443, sent)


def _calls(drawn: random.Random, count: int, period: float, jitter: float) -> list[Connection]:
    start, calls = 0.0, []
    for _ in range(count):
        calls.append(_at(start, 200))
        start += period * (1 + drawn.uniform(-jitter, jitter))
    return calls


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.3, 0.5])
def test_a_timer_is_found_even_with_jitter(jitter: float) -> None:
    (found,) = beacons(_calls(random.Random(1), 60, 300.0, jitter))
    assert found.period == pytest.approx(300, rel=0.1)
    assert found.calls == 60
    assert found.sent == 60 * 200
    assert found.size_jitter == 0
    assert "60 calls every" in str(found)


def test_calls_that_nobody_spaces_are_no_beacon() -> None:
    drawn, alarms = random.Random(2), 0
    for _ in range(300):
        start, calls = 0.0, []
        for _ in range(40):
            start += 1 + drawn.expovariate(1 / 300)
            calls.append(_at(start))
        alarms += len(beacons(calls))
    assert alarms == 0


def test_what_begins_together_is_one_call() -> None:
    pairs = [_at(300.0 * n + extra) for n in range(40) for extra in (0.0, 0.2)]
    (found,) = beacons(pairs)
    assert (found.calls, found.sent) == (40, 8_000)


def test_few_calls_show_no_rhythm() -> None:
    assert beacons(_calls(random.Random(3), 10, 60.0, 0.0)) == ()
    assert beacons([]) == ()


def test_equal_intervals_are_the_most_regular() -> None:
    assert chance([5.0] * 50) < chance([4.0, 6.0] * 25) < chance([1.0, 9.0] * 25)
    assert chance([1.0, 1e9] * 20) == pytest.approx(1.0)


@pytest.mark.parametrize("count", [12, 40])
def test_the_stated_chance_is_that_of_calls_which_nobody_spaces(count: int) -> None:
    drawn = random.Random(count)
    rounds = 20_000
    found = sorted(chance([drawn.expovariate(1.0) for _ in range(count)]) for _ in range(rounds))
    for share in (0.5, 0.05, 0.005):
        assert found[int(share * rounds)] == pytest.approx(share, rel=0.25)


def test_a_drip_below_every_hourly_limit_shows_in_the_sum() -> None:
    limits = DripLimits(total=1_000_000, hour=50_000, payload=10_000_000)
    drip = [_at(HOUR * n, 10_000) for n in range(24 * 5)]
    (found,) = drips([*drip, _at(0.0, 500, to="203.0.113.10")], limits)
    assert (found.sent, found.hours, found.most_an_hour) == (1_200_000, 120, 10_000)
    assert found.a_day == pytest.approx(240_000)
    assert found.days_left == pytest.approx((10_000_000 - 1_200_000) / 240_000)
    assert "out in" in str(found)


def test_bulk_is_left_to_quotas_and_one_long_connection_is_spread_over_its_hours() -> None:
    limits = DripLimits(total=1_000_000, hour=50_000)
    assert drips([_at(0.0, 2_000_000)], limits) == ()
    (found,) = drips([_at(0.0, 2_000_000, duration=5 * DAY)], limits)
    assert found.of_hours == 121
    assert found.days_left is None


def test_everybody_is_shown_who_is_sent_most_first() -> None:
    calls = _calls(random.Random(4), 30, 300.0, 0.1)
    first, second = peers([*calls, _at(0.0, 10**6, to="203.0.113.10", duration=2 * HOUR)])
    assert (first.sent, first.calls, first.of_hours, first.chance) == (10**6, 1, 3, None)
    assert (second.sent, second.calls) == (6_000, 30)
    assert second.chance is not None
    assert second.chance < 1e-9
    assert peers([_at(0.0, 0)])[0].a_day == 0


def test_limits_that_nothing_or_everything_passes_are_refused() -> None:
    for change in ({"intervals": 2}, {"chance": 0.0}, {"apart": 0.0}):
        with pytest.raises(ConfigError):
            BeaconLimits(**change)
    with pytest.raises(ConfigError):
        DripLimits(total=0)
