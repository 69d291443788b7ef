"""From a scenario to its answer: closed forms at the point values, the simulation round them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tidegate.plan import growth, model, simulate
from tidegate.plan.answer import (
    Answer,
    Band,
    Compared,
    Cost,
    Curves,
    Input,
    Point,
    Spread,
    Strategy,
    Swing,
)
from tidegate.plan.caps import ASKED, SKETCH, cap_for, capped
from tidegate.plan.fields import FIELDS
from tidegate.plan.growth import F64Array
from tidegate.plan.scenario import Scenario, exactly
from tidegate.plan.simulate import Lifetimes, Progress

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def answer(
    scenario: Scenario,
    *,
    version: str,
    lifetimes: int,
    seed: int = 0,
    wanted: Sequence[float] = (),
    curves: bool = True,
    progress: Progress | None = None,
) -> Answer:
    """Reckon and simulate.

    Args:
        scenario: as `scenario.read` gives it.
        version: of the program, for the record.
        lifetimes: how many to simulate, >= 1.
        seed: which draws; two scenarios with the same seed share them.
        wanted: days that a cap shall buy; the model's life is always asked for.
        curves: whether to work out what is only plotted.
        progress: told lifetimes done and to do.
    """
    lived = simulate.run(scenario, lifetimes, seed=seed, progress=progress)
    return _answer(scenario, lived, version=version, seed=seed, wanted=wanted, curves=curves)


def compare(
    a: Scenario,
    b: Scenario,
    *,
    version: str,
    lifetimes: int,
    seed: int = 0,
    curves: bool = True,
    progress: Progress | None = None,
) -> Compared:
    """Both answers, and the ratio of their days on the same draws. Arguments as for `answer`."""
    lived = [simulate.run(each, lifetimes, seed=seed, progress=progress) for each in (a, b)]
    told = [
        _answer(each, its, version=version, seed=seed, wanted=(), curves=curves)
        for each, its in zip((a, b), lived, strict=True)
    ]
    days_a_N, days_b_N = (its.days_N for its in lived)
    both_N = np.isfinite(days_a_N) & np.isfinite(days_b_N)
    names = dict.fromkeys((*a.values, *b.values))
    return Compared(
        a=told[0],
        b=told[1],
        ratio=_spread(days_b_N[both_N] / days_a_N[both_N]),
        b_later=float((days_b_N > days_a_N).mean()),
        differs=tuple(n for n in names if _ends(a, n) != _ends(b, n)),
    )


def _answer(
    scenario: Scenario,
    lived: Lifetimes,
    *,
    version: str,
    seed: int,
    wanted: Sequence[float],
    curves: bool,
) -> Answer:
    days = dict.fromkeys((*wanted, scenario.at("model.lifetime")))
    return Answer(
        version=version,
        title=scenario.title,
        about=scenario.about.strip(),
        seed=seed,
        lifetimes=lived.days_N.size,
        inputs=_inputs(scenario),
        point=point(scenario),
        days=_spread(lived.days_N),
        never=float(np.isinf(lived.days_N).mean()),
        within_life=within_life(scenario, lived, seed),
        copies=_spread(lived.copies_N),
        binds=_shares(lived.binds_N, model.BINDING),
        strategies_won=_shares(lived.number_N, lived.names),
        strategies=strategies(scenario),
        caps=tuple(cap_for(scenario, each, seed) for each in days),
        swings=swings(scenario),
        cost=cost(scenario),
        curves=_curves(scenario, lived, seed) if curves else None,
    )


def _ends(scenario: Scenario, name: str) -> tuple[float, ...] | None:
    quantity = scenario.values.get(name)
    return None if quantity is None else (quantity.value, quantity.low, quantity.high)


def point(scenario: Scenario) -> Point:
    """The best strategy at the point values."""
    v = simulate.values_at(scenario)
    on = model.ground(v)
    chosen = model.best(v, on)
    rows = strategies(scenario)
    able = [row for row in rows if model.kind(row.name) == "duty" and row.days is not None]
    best_duty = min(able, key=lambda row: row.days or 0.0, default=None)
    drawn = scenario.at("verification.audit_rate") * scenario.at("verification.detection_power")
    return Point(
        days=_or_never(chosen.days_N),
        strategy=chosen.names[int(chosen.number_N[0])],
        best_duty=None if best_duty is None else best_duty.duty,
        binds=model.BINDING[int(model.binding(v, on, chosen)[0])],
        copies=float(simulate.copies(v, on, chosen)[0]),
        loot_bits=float(on.loot_N[0]),
        tokens_a_day=float(on.tokens_N[0] / v["attacker.share_of_traffic"][0]),
        honest_bits_a_day=float(on.honest_N[0]),
        cap_bits_a_day=float(on.cap_N[0]),
        audited_before_99=needed(drawn, 0.99),
    )


def needed(rate: float, confidence: float) -> int | None:
    """The least n with 1 - (1 - rate)^n >= confidence; None where no number is enough."""
    if rate <= 0:
        return None
    if rate >= 1:
        return 1
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate) - 1e-9)


def strategies(scenario: Scenario) -> tuple[Strategy, ...]:
    """Every strategy at the point values, in the order of the model."""
    v = simulate.values_at(scenario)
    on = model.ground(v)
    rows = []
    for route in model.routes(v, on):
        there_N, caught_N = model.alarms(v, on, route)
        rows.append(
            Strategy(
                name=route.name,
                stands_for=model.STANDS_FOR[model.kind(route.name)],
                duty=route.duty,
                bits_a_day=float(np.minimum(route.first_N, route.ceiling_N)[0]),
                days_there=_or_never(there_N),
                alarms=float(caught_N[0]),
                days=_or_never(model.elapsed(v, on, route, there_N, caught_N)),
                fits=bool(route.fits_N[0]),
            )
        )
    return tuple(rows)


def swings(scenario: Scenario) -> tuple[Swing, ...]:
    """What each open value does by itself, the largest swing first."""
    at = simulate.values_at(scenario)
    rows = []
    for name, quantity in scenario.values.items():
        if not quantity.open:
            continue
        v = at | {name: np.array([quantity.low, quantity.high])}
        low, high = np.broadcast_to(model.best(v, model.ground(v)).days_N, (2,)).tolist()
        rows.append(
            Swing(
                name=name,
                unit=FIELDS[name].dimension.base,
                low=quantity.low,
                high=quantity.high,
                days_at_low=low if math.isfinite(low) else None,
                days_at_high=high if math.isfinite(high) else None,
            )
        )
    return tuple(sorted(rows, key=_width, reverse=True))


def _width(swing: Swing) -> float:
    ends = (swing.days_at_low, swing.days_at_high)
    if None in ends:
        return math.inf if ends != (None, None) else 0.0
    return abs(math.log((ends[0] or 1e-300) / (ends[1] or 1e-300)))


def cost(scenario: Scenario) -> Cost:
    """What the defence costs at the point values."""
    v = simulate.values_at(scenario)
    on = model.ground(v)
    verify = scenario.at("verification.audit_rate") * scenario.at("cost.verify_over_generate")
    slowdown = scenario.at("cost.link_slowdown")
    link = slowdown / (1 - slowdown)
    written = scenario.at("traffic.tokens") * scenario.at("traffic.output_share")
    priced = "cost.price" in scenario.values
    usd = scenario.at("cost.price") * written / 1e6 * (verify + link) if priced else None
    refused = 0.0
    if on.fixed:
        free_N, held_N = (
            growth.total(v["model.lifetime"], on.honest_N, ceiling_N, on.g_N)
            for ceiling_N in (np.array([np.inf]), on.cap_N)
        )
        refused = max(0.0, 1 - float(held_N[0] / free_N[0]))
    return Cost(
        verify_share=verify,
        link_share=link,
        total_share=verify + link,
        usd_a_day=usd,
        refused_share=refused,
    )


def within_life(scenario: Scenario, lived: Lifetimes, seed: int) -> float:
    """The share of lifetimes in which the weights are out before the model is old."""
    count = lived.days_N.size
    life = scenario.values["model.lifetime"]
    if not life.open:
        return float((lived.days_N <= life.value).mean())
    drawn = [
        simulate.values_drawn(scenario, seed, first, min(simulate.CHUNK, count - first))
        for first in range(0, count, simulate.CHUNK)
    ]
    life_N = np.concatenate([v["model.lifetime"] for v in drawn])
    return float((lived.days_N <= life_N).mean())


def _curves(scenario: Scenario, lived: Lifetimes, seed: int) -> Curves:
    horizon = scenario.at("model.lifetime")
    times = tuple((horizon * np.linspace(0, 1, 41)).tolist())
    finite_N = np.sort(lived.days_N[np.isfinite(lived.days_N)])
    steps = np.linspace(0, 1, 101)
    chance_x = np.quantile(finite_N, steps).tolist() if finite_N.size else []
    chance_y = (steps * finite_N.size / lived.days_N.size).tolist() if finite_N.size else []
    cap = point(scenario).cap_bits_a_day
    caps = tuple((cap * np.logspace(-2, 1, 19)).tolist())
    packings = tuple(np.logspace(0, 2, 17).tolist())
    by_cap = [simulate.run(capped(scenario, each), SKETCH, seed=seed).days_N for each in caps]
    by_packing = [
        simulate.run(_packed(scenario, each), SKETCH, seed=seed).copies_N for each in packings
    ]
    return Curves(
        fan=_band(times, simulate.leaked_by(scenario, times, SKETCH, seed=seed).T),
        chance_x=tuple(chance_x),
        chance_y=tuple(chance_y),
        cap=_band(caps, by_cap),
        packing=_band(packings, by_packing),
    )


def _packed(scenario: Scenario, times: float) -> Scenario:
    one, all_of_it = exactly(1, ASKED), exactly(times, ASKED)
    return scenario.having(
        attacker__lossless_compression=one, attacker__lossy_compression=all_of_it
    )


def _band(x: tuple[float, ...], rows: Sequence[F64Array] | F64Array) -> Band:
    spreads = [_spread(np.asarray(row)) for row in rows]
    return Band(
        x=x,
        p5=tuple(spread.p5 for spread in spreads),
        p50=tuple(spread.p50 for spread in spreads),
        p95=tuple(spread.p95 for spread in spreads),
    )


def _inputs(scenario: Scenario) -> tuple[Input, ...]:
    return tuple(
        Input(
            name=name,
            means=FIELDS[name].means,
            value=quantity.value,
            low=quantity.low,
            high=quantity.high,
            unit=FIELDS[name].dimension.base,
            source=quantity.source,
            given=quantity.given,
        )
        for name, quantity in scenario.values.items()
    )


def _spread(values_N: F64Array) -> Spread:
    if not values_N.size:
        return Spread(p5=None, p25=None, p50=None, p75=None, p95=None)
    # `lower` never averages a day with never.
    told = np.quantile(values_N, _QUANTILES, method="lower").tolist()
    p5, p25, p50, p75, p95 = (value if math.isfinite(value) else None for value in told)
    return Spread(p5=p5, p25=p25, p50=p50, p75=p75, p95=p95)


def _shares(numbers_N: F64Array, names: Sequence[str]) -> dict[str, float]:
    counted = np.bincount(numbers_N.astype(np.int64), minlength=len(names)) / numbers_N.size
    told = {name: share for name, share in zip(names, counted.tolist(), strict=True) if share}
    return dict(sorted(told.items(), key=lambda item: -item[1]))


def _or_never(days_N: F64Array) -> float | None:
    day = float(days_N[0])
    return day if math.isfinite(day) else None
