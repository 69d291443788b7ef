"""Merging and spending what tests by betting have won."""

from __future__ import annotations

import math

import pytest

from tidegate.errors import ConfigError
from tidegate.scan.evalues import log_sum, merge_average, spend


def test_averages_hold_under_any_dependence() -> None:
    logs = [0.0, math.log(9.0), math.log(0.5)]
    assert math.exp(merge_average(logs)) == pytest.approx(3.5)
    assert math.exp(merge_average(logs, [0.5, 0.25, 0.0])) == pytest.approx(0.5 + 2.25 + 0.25)
    assert merge_average([800.0, 0.0]) == pytest.approx(800 - math.log(2))
    for weights in ([1.0], [0.9, 0.2, 0.1], [-0.1, 0.5, 0.1]):
        with pytest.raises(ConfigError):
            merge_average(logs, weights)


def test_shares_of_a_false_alarm_rate_never_exceed_it() -> None:
    assert sum(spend(0.01, n) for n in range(1, 10_000)) < 0.01
    with pytest.raises(ConfigError):
        spend(0.01, 0)


def test_wealth_that_is_all_gone_sums_to_nothing() -> None:
    assert log_sum([-math.inf, -math.inf]) == -math.inf
    assert log_sum([-math.inf, 2.0]) == 2.0
