"""Counters that end before the traffic does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gate.meter_counters import Running
from tidegate.gate.meter_port import MeterError


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**31 - 1), max_size=20),
)
def test_a_counter_of_32_bits_may_pass_its_end_between_looks(start: int, steps: list[int]) -> None:
    running, truth = Running(32, start), start
    for step in steps:
        truth += step
        running = running.moved_to(truth % 2**32)
    assert running.total == truth - start


@pytest.mark.parametrize("value", [999, 0])
def test_a_counter_that_goes_back_was_reset_and_stops_the_meter(value: int) -> None:
    with pytest.raises(MeterError, match="reset"):
        Running(64, 1000).moved_to(value)


def test_a_counter_never_shows_more_than_it_has_bits_for() -> None:
    with pytest.raises(MeterError, match="32 bits"):
        Running(32, 0).moved_to(2**32)
