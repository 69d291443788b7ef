"""What a scenario comes to, as one value: everything shown to people or machines is made from it.

Numbers are finite or absent: no day means never.
"""

from __future__ import annotations

import msgspec


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One value that went in, in `unit`. `given` is false for a default."""

    name: str
    means: str
    value: float
    low: float
    high: float
    unit: str
    source: str
    given: bool


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles over lifetimes; None for never."""

    p5: float | None
    p25: float | None
    p50: float | None
    p75: float | None
    p95: float | None


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy at the point values.

    `stands_for`: the red team's attacks that it bounds. `bits_a_day`: today, while he is there.
    `alarms`: on average until the weights are out. `fits`: whether the cap leaves room for it.
    """

    name: str
    stands_for: tuple[str, ...]
    duty: float
    bits_a_day: float
    days_there: float | None
    alarms: float
    days: float | None
    fits: bool


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The closed forms at the point values: the best strategy's."""

    days: float | None
    strategy: str
    best_duty: float | None
    binds: str
    copies: float
    loot_bits: float
    tokens_a_day: float
    honest_bits_a_day: float
    cap_bits_a_day: float
    audited_before_99: int | None
    """Tokens of his own choice until one has been drawn for re-execution and flagged with 99%."""


class CapFor(msgspec.Struct, frozen=True, kw_only=True):
    """The largest fixed cap under which he needs the wanted days, at the point values and in 95% of
    lifetimes; None where any cap will do. The shares are of today's honest use.

    `residual`: the largest verification residual that buys as much under the scenario's own cap;
    None where nothing is verified, or where not even 0 does.
    """

    days: float
    cap_bits_a_day: float | None
    honest_share: float | None
    sure_cap_bits_a_day: float | None
    sure_honest_share: float | None
    residual: float | None


class Swing(msgspec.Struct, frozen=True, kw_only=True):
    """Days when one value goes to either end of its range and all others stay."""

    name: str
    unit: str
    low: float
    high: float
    days_at_low: float | None
    days_at_high: float | None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the defence costs, as shares of the work of generating.

    `refused_share`: of honest use over the model's life, what a fixed cap turns away.
    """

    verify_share: float
    link_share: float
    total_share: float
    usd_a_day: float | None
    refused_share: float


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """One curve with its 90% band; None for never."""

    x: tuple[float, ...]
    p5: tuple[float | None, ...]
    p50: tuple[float | None, ...]
    p95: tuple[float | None, ...]


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """What is plotted.

    `fan`: copies' worth of bits by day. `chance`: share of lifetimes in which all is out by day x.
    `cap`: days by fixed cap in bits a day. `packing`: copies in the model's life by how far he
    packs weights.
    """

    fan: Band
    chance_x: tuple[float, ...]
    chance_y: tuple[float, ...]
    cap: Band
    packing: Band


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. `binds` and `strategies_won` are shares of lifetimes."""

    tool: str = "tidegate plan"
    version: str
    title: str
    about: str
    seed: int
    lifetimes: int
    inputs: tuple[Input, ...]
    point: Point
    days: Spread
    never: float
    within_life: float
    copies: Spread
    binds: dict[str, float]
    strategies_won: dict[str, float]
    strategies: tuple[Strategy, ...]
    caps: tuple[CapFor, ...]
    swings: tuple[Swing, ...]
    cost: Cost
    curves: Curves | None

    def json(self) -> bytes:
        """One JSON object, without NaN or infinity."""
        return msgspec.json.encode(self)


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Two scenarios on the same draws. `ratio`: B's days over A's, lifetime by lifetime, where both
    are finite. `b_later`: share of lifetimes in which B lasts longer."""

    tool: str = "tidegate plan compare"
    a: Answer
    b: Answer
    ratio: Spread
    b_later: float
    differs: tuple[str, ...]

    def json(self) -> bytes:
        """One JSON object, without NaN or infinity."""
        return msgspec.json.encode(self)
