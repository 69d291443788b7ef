"""The lanes' part of the fleet's bench: its arithmetic, and that its processes work."""

from __future__ import annotations

import pytest

from tidegate.bench import fleet_lanes
from tidegate.bench.fleet_lanes_plan import Found


def rounds(lanes: int, rates: list[float]) -> list[Found]:
    return [
        Found(tokens=int(rate * 10), seconds=10.0, cpu_s=rate / 1000, bits=int(rate * 20))
        for rate in rates
    ]


def test_scaling_is_the_median_rate_over_as_many_times_that_of_one_lane():
    step = fleet_lanes.STEP_S
    found = {
        (1, step): rounds(1, [90, 100, 500]),
        (2, step): rounds(2, [10, 190, 200]),
        (4, step): rounds(4, [380, 360, 1]),
        (1, 0.0): rounds(1, [40, 50, 60]),
        (2, 0.0): rounds(2, [70, 75, 80]),
    }
    figures = fleet_lanes._scaling(found) | fleet_lanes._costs(found)
    assert figures["lanes_scaling"].value == pytest.approx(0.9)
    assert figures["lanes_scaling"].holds
    assert figures["lanes_scaling_2"].value == pytest.approx(0.95)
    assert figures["lanes_tokens_per_s"].value == pytest.approx(100)
    assert figures["lanes_of_engine"].value == pytest.approx(100 * step / fleet_lanes.STREAMS)
    assert figures["lanes_real_2_over_1"].value == pytest.approx(1.5)
    assert figures["lanes_outer_us_per_token"].value == pytest.approx(100)
    assert figures["lanes_bits_per_token"].value == pytest.approx(2)
    worse = found | {(4, step): rounds(4, [350, 350, 350])}
    assert fleet_lanes._scaling(worse)["lanes_scaling"].holds is False


@pytest.mark.models
def test_inner_and_outer_processes_carry_tokens_over_two_lanes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fleet_lanes, "WINDOW_S", 1.0)
    monkeypatch.setattr(fleet_lanes, "WARM_S", 0.5)
    found = fleet_lanes._throughput(2, 0.01)
    assert found.tokens > 0
    assert found.bits > 0
    assert 1.0 <= found.seconds < 10
