"""Days, bits, shares and numbers as people read them."""

from __future__ import annotations

from tidegate.plan.units import YEAR


def number(value: float | None) -> str:
    """Three digits, with an exponent where there would be many noughts; "-" for none."""
    if value is None:
        return "-"
    size = abs(value)
    if size and (size >= 1e7 or size < 1e-3):
        return f"{value:.2e}"
    return f"{float(f'{value:.3g}'):,.10g}"


def days(value: float | None) -> str:
    """A duration in the unit that suits it; None is never."""
    if value is None:
        return "never"
    for below, times, unit in ((1 / 24, 1440, "minutes"), (2, 24, "hours"), (1000, 1, "days")):
        if value < below:
            return f"{number(value * times)} {unit}"
    return f"{number(value / YEAR)} years"


def bits(value: float | None) -> str:
    """Bits a day in bytes; None is any number."""
    if value is None:
        return "any"
    size = value / 8
    for limit, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= limit:
            return f"{number(size / limit)} {unit}/day"
    return f"{number(value)} bits/day"


def share(value: float | None) -> str:
    """Per cent, or times from 1,000% on; "-" for none."""
    if value is None:
        return "-"
    return f"{number(value)} times" if value >= 10 else f"{number(100 * value)}%"
