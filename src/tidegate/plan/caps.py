"""The cap, or the residual, that buys a number of days."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from tidegate.plan import model, simulate
from tidegate.plan.answer import CapFor
from tidegate.plan.scenario import Scenario, exactly
from tidegate.plan.units import YEAR

SKETCH: Final = 1024
"""Lifetimes behind each point of a curve and each step towards a sure cap."""
ASKED: Final = "assumed: what is asked for"
_SURE = 0.05
_BISECTIONS = 40


def days_at(scenario: Scenario) -> float:
    """Days at the point values; inf for never."""
    v = simulate.values_at(scenario)
    return float(model.best(v, model.ground(v)).days_N[0])


def capped(scenario: Scenario, bits_a_day: float) -> Scenario:
    """The scenario under a cap that is a number."""
    cap = exactly(bits_a_day, ASKED)
    return scenario.without("link.headroom").having(link__cap=cap)


def cap_for(scenario: Scenario, days: float, seed: int = 0) -> CapFor:
    """The largest fixed cap that buys `days`."""

    def surely(bits_a_day: float) -> float:
        lived = simulate.run(capped(scenario, bits_a_day), SKETCH, seed=seed)
        return float(np.quantile(lived.days_N, _SURE, method="lower"))

    v = simulate.values_at(scenario)
    on = model.ground(v)
    honest = float(on.honest_N[0])
    # At most what all tokens can say freely, grown as far as the model lives, can ever leave.
    grown = float(v["traffic.growth"][0] ** (scenario.at("model.lifetime") / YEAR))
    most = 64 * float(on.tokens_N[0]) * max(1.0, grown) + float(on.cap_N[0])
    cap = _largest(lambda bits: days_at(capped(scenario, bits)), days, most)
    sure = _largest(surely, days, most)
    return CapFor(
        days=days,
        cap_bits_a_day=cap,
        honest_share=None if cap is None else cap / honest,
        sure_cap_bits_a_day=sure,
        sure_honest_share=None if sure is None else sure / honest,
        residual=_residual_for(scenario, days),
    )


def _residual_for(scenario: Scenario, days: float) -> float | None:
    if scenario.at("verification.audit_rate") == 0:
        return None

    def days_of(residual: float) -> float:
        return days_at(scenario.having(verification__residual=exactly(residual, ASKED)))

    if days_of(1.0) >= days:
        return 1.0
    low, high = math.log(1e-12), 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if days_of(math.exp(middle)) >= days else (low, middle)
    return math.exp(low) if days_of(math.exp(low)) >= days else None


def _largest(days_of: Callable[[float], float], wanted: float, most: float) -> float | None:
    """The largest cap with `days_of(cap) >= wanted`, which falls; None where `most` still has."""
    if days_of(most) >= wanted:
        return None
    low, high = 0.0, math.log(most)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if days_of(math.exp(middle)) >= wanted else (low, middle)
        if high - low < 1e-4:
            break
    return math.exp(low)
