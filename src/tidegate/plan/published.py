"""Published arithmetic, recomputed from the scenarios shipped with the package.

Each figure names its source in the scenario it comes from, and what had to be assumed there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tidegate.plan import caps, growth, model, reckon, simulate
from tidegate.plan.scenario import Quantity, Scenario, exactly

Shipped = Mapping[str, Scenario]

_ASKED = "assumed: what the figure asks for"


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure and what the planner makes of it."""

    name: str
    says: str
    published: float
    unit: str
    ours: float

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.ours / self.published - 1)


@dataclass(frozen=True, slots=True)
class _Claim:
    name: str
    says: str
    published: float
    unit: str
    make: Callable[[Shipped], float]


def figures(shipped: Shipped) -> tuple[Figure, ...]:
    """Every published figure. `shipped`: the packaged scenarios by name."""
    return tuple(
        Figure(claim.name, claim.says, claim.published, claim.unit, claim.make(shipped))
        for claim in _CLAIMS
    )


def tokens_in_life(scenario: Scenario) -> float:
    """Tokens that leave while the model is served."""
    v = simulate.values_at(scenario)
    on = model.ground(v)
    tokens_N = on.tokens_N / v["attacker.share_of_traffic"]
    never = np.array([np.inf])
    return float(growth.total(v["model.lifetime"], tokens_N, never, on.g_N)[0])


def scaled(scenario: Scenario, times: float) -> Scenario:
    """A model `times` as large that serves `times` the tokens."""

    def larger(name: str) -> Quantity:
        quantity = scenario.values[name]
        return exactly(quantity.value * times, _ASKED)

    return scenario.having(
        model__parameters=larger("model.parameters"), traffic__tokens=larger("traffic.tokens")
    )


def packed(scenario: Scenario, times: float) -> Scenario:
    """Against a thief who packs weights `times`."""
    return scenario.having(attacker__lossy_compression=exactly(times, _ASKED))


def _days(scenario: Scenario) -> float:
    return caps.days_at(scenario)


def _copies(scenario: Scenario) -> float:
    return reckon.point(scenario).copies


def _bytes_in_life(scenario: Scenario) -> float:
    told = reckon.point(scenario)
    return told.copies * told.loot_bits / 8


def _gigabytes_a_day(scenario: Scenario) -> float:
    told = reckon.point(scenario)
    rows = {row.name: row for row in reckon.strategies(scenario)}
    return rows[told.strategy].bits_a_day / 8e9


def _drawn(scenario: Scenario) -> float:
    n = reckon.point(scenario).audited_before_99
    return float("inf") if n is None else float(n)


def _chinchilla(shipped: Shipped) -> float:
    scenario = shipped["chinchilla"]
    return scenario.at("model.parameters") / tokens_in_life(scenario)


def _larger(shipped: Shipped) -> float:
    today, large = shipped["greenblatt-today"], shipped["greenblatt-large"]
    times = large.at("model.parameters") / today.at("model.parameters")
    return tokens_in_life(scaled(today, times))


_CLAIMS: Final = (
    _Claim(
        "total_outflow",
        "8e14 tokens at 0.1 bit are 1e13 bytes",
        1e13,
        "bytes",
        lambda shipped: _bytes_in_life(shipped["greenblatt-large"]),
    ),
    _Claim(
        "copies_unpacked",
        "a tenth of weights of 1e14 bytes",
        0.1,
        "copies",
        lambda shipped: _copies(shipped["greenblatt-large"]),
    ),
    _Claim(
        "copies_packed_16",
        "packed 16 times, 1.6 copies leak",
        1.6,
        "copies",
        lambda shipped: _copies(packed(shipped["greenblatt-large"], 16)),
    ),
    _Claim(
        "copies_packed_100",
        "packed 100 times, 10 copies leak",
        10.0,
        "copies",
        lambda shipped: _copies(packed(shipped["greenblatt-large"], 100)),
    ),
    _Claim(
        "tokens_today",
        "2 trillion tokens in six months",
        2e12,
        "tokens",
        lambda shipped: tokens_in_life(shipped["greenblatt-today"]),
    ),
    _Claim("tokens_larger", "2e14 for the larger model", 2e14, "tokens", _larger),
    _Claim(
        "chinchilla",
        "a twentieth as many parameters as tokens",
        1 / 20,
        "parameters/token",
        _chinchilla,
    ),
    _Claim(
        "unverified",
        "1 TB of text a day takes weights of 1 TB in a day",
        1.0,
        "days",
        lambda shipped: _days(shipped["rinberg-unverified"]),
    ),
    _Claim(
        "unverified_rate",
        "of which all can be his",
        1000.0,
        "GB/day",
        lambda shipped: _gigabytes_a_day(shipped["rinberg-unverified"]),
    ),
    _Claim(
        "verified_rate",
        "verified, 5 GB a day pass",
        5.0,
        "GB/day",
        lambda shipped: _gigabytes_a_day(shipped["rinberg-verified"]),
    ),
    _Claim(
        "verified_slowdown",
        "which takes 200 times as long",
        200.0,
        "x",
        lambda shipped: _days(shipped["rinberg-verified"]) / _days(shipped["rinberg-unverified"]),
    ),
    _Claim(
        "compressed_text",
        "compressed before it leaves, a day becomes 70",
        70.0,
        "days",
        lambda shipped: _days(shipped["compressed-text"]),
    ),
    _Claim(
        "line",
        "810 GB at 100 Mbit/s take 18 hours",
        18.0,
        "hours",
        lambda shipped: 24 * _days(shipped["line-100-mbit"]),
    ),
    _Claim(
        "audit_sample",
        "460 samples find 1% with 99%",
        460.0,
        "samples",
        lambda shipped: _drawn(shipped["audit-sample"]),
    ),
)
