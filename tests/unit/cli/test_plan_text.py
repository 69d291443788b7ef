"""Numbers as people read them."""

from __future__ import annotations

import pytest

from tidegate.cli.plan_text import bits, days, number, share


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "never"),
        (1 / 1440, "1 minutes"),
        (0.75, "18 hours"),
        (67.27, "67.3 days"),
        (999.4, "999 days"),
        (3650.0, "10 years"),
    ],
)
def test_days_come_in_the_unit_that_suits_them(value: float | None, told: str) -> None:
    assert days(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "any"),
        (8.0, "8 bits/day"),
        (8e9, "1 GB/day"),
        (4e13, "5 TB/day"),
        (80.0, "80 bits/day"),
    ],
)
def test_bits_a_day_come_in_bytes(value: float | None, told: str) -> None:
    assert bits(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(None, "-"), (0.00585, "0.585%"), (1.0, "100%"), (170.0, "170 times")]
)
def test_shares_become_times_where_they_are_many(value: float | None, told: str) -> None:
    assert share(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "-"), (0.0, "0"), (1234.0, "1,230"), (2e12, "2.00e+12"), (0.00053, "5.30e-04")],
)
def test_numbers_have_three_digits(value: float | None, told: str) -> None:
    assert number(value) == told
