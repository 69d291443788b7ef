"""Many lifetimes, each with its own values and its own luck with alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tidegate.plan import draws, growth, model
from tidegate.plan.fields import FIELDS
from tidegate.plan.growth import F64Array
from tidegate.plan.scenario import Scenario

CHUNK: Final = 1 << 13
"""Lifetimes at a time: what they need stays in the processor's cache."""

_ALARMS = "luck/alarms"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What came out, one entry a lifetime, float64 [N].

    `days_N`: until the weights are out, inf for never. `copies_N`: copies' worth of bits that the
    strategy brings out in the model's life. `number_N` into `names`, `binds_N` into
    `model.BINDING`. `caught_N`: alarms on the way.
    """

    names: tuple[str, ...]
    days_N: F64Array
    copies_N: F64Array
    number_N: F64Array
    binds_N: F64Array
    caught_N: F64Array


def values_at(scenario: Scenario) -> dict[str, F64Array]:
    """The point values as arrays of one."""
    return {name: np.array([quantity.value]) for name, quantity in scenario.values.items()}


def values_drawn(scenario: Scenario, seed: int, first: int, count: int) -> dict[str, F64Array]:
    """Values of lifetimes `first` to `first + count - 1`; arrays of one where nothing is open."""
    drawn = {}
    for name in FIELDS:
        quantity = scenario.values.get(name)
        if quantity is None:
            continue
        if quantity.open:
            drawn[name] = draws.quantile(quantity, draws.uniform(seed, name, first, count))
        else:
            drawn[name] = np.array([quantity.value])
    return drawn


def run(
    scenario: Scenario, lifetimes: int, *, seed: int = 0, progress: Progress | None = None
) -> Lifetimes:
    """Simulate; the same seed draws the same lifetimes on any machine, whatever their number."""
    parts = []
    for first in range(0, lifetimes, CHUNK):
        parts.append(_chunk(scenario, seed, first, min(CHUNK, lifetimes - first)))
        if progress is not None:
            progress(min(first + CHUNK, lifetimes), lifetimes)
    return Lifetimes(
        parts[0].names,
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("days_N", "copies_N", "number_N", "binds_N", "caught_N")
        ),
    )


def _chunk(scenario: Scenario, seed: int, first: int, count: int) -> Lifetimes:
    v = values_drawn(scenario, seed, first, count)
    on = model.ground(v)
    chosen = model.best(v, on)
    caught_N = draws.counts(
        np.broadcast_to(chosen.caught_N, (count,)), draws.uniform(seed, _ALARMS, first, count)
    )
    days_N = model.elapsed(v, on, chosen.route, chosen.there_N, caught_N)
    wide = (
        days_N,
        copies(v, on, chosen),
        chosen.number_N,
        model.binding(v, on, chosen),
        caught_N,
    )
    return Lifetimes(chosen.names, *(np.broadcast_to(array, (count,)) for array in wide))


def copies(v: model.Values, on: model.Ground, chosen: model.Chosen) -> F64Array:
    """Copies' worth of bits out in the model's life, absences at their mean."""
    away_N = chosen.caught_N * v["attacker.return"]
    there_N = np.where(np.isfinite(chosen.there_N), chosen.there_N, 1.0)
    present_N = there_N / (there_N + away_N)
    route = chosen.route
    bits_N = growth.total(
        v["model.lifetime"], route.first_N * present_N, route.ceiling_N * present_N, route.g_N
    )
    copies_N: F64Array = bits_N / on.loot_N
    return copies_N


def leaked_by(
    scenario: Scenario, days: Sequence[float], lifetimes: int, *, seed: int = 0
) -> F64Array:
    """Copies' worth of bits out by each day: float64 [lifetimes, days]; alarms at their mean."""
    v = values_drawn(scenario, seed, 0, lifetimes)
    on = model.ground(v)
    chosen = model.best(v, on)
    rows = [
        np.broadcast_to(copies(v | {"model.lifetime": np.array([day])}, on, chosen), (lifetimes,))
        for day in days
    ]
    return np.stack(rows, axis=1)
