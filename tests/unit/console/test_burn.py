from __future__ import annotations

import pytest

from tidegate.console.burn import Burn, seconds_at_caps, seconds_for


def test_speed_is_that_of_the_last_minute() -> None:
    burn = Burn()
    for second in range(200):
        burn.add(float(second), 1000 * second if second < 100 else 100_000 + 10 * (second - 100))
    assert burn.a_second() == pytest.approx(10)


def test_one_sample_tells_no_speed() -> None:
    burn = Burn()
    assert burn.a_second() == 0
    burn.add(5.0, 12345)
    assert burn.a_second() == 0


def test_a_clock_that_goes_back_is_left_out() -> None:
    burn = Burn()
    for time, spent in ((10.0, 0), (20.0, 100), (5.0, 200)):
        burn.add(time, spent)
    assert burn.samples == ((10.0, 0), (20.0, 100))


def test_nothing_lasts_forever_but_what_is_not_used() -> None:
    assert seconds_for(100, 10) == 10
    assert seconds_for(100, 0) is None
    assert seconds_for(None, 10) is None


def test_the_tightest_window_says_how_soon() -> None:
    # 100 bits an hour and 1,000 a day: the day is tighter.
    assert seconds_at_caps(10_000, None, [(3600, 100), (86_400, 1000)]) == 10 * 86_400
    assert seconds_at_caps(10_000, 9_999, [(3600, 100)]) is None
    assert seconds_at_caps(10_000, None, []) is None
