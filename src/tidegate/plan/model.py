"""What a thief can do against a scenario, in closed form: each strategy's rate, alarms and days.

Weights that he has packed weigh `W = 8 · parameters · bytes / (lossless · lossy)` bits. They leave
hidden in answers, since the link carries nothing else, and every strategy is a rate

    min(ceiling, first · growth^t)    bits on day t

times the share of days on which he is there: an alarm ends a stay, and he is back `return` days
later with his loot kept. Which strategies there are, and which of the red team's they stand for:

* `quiet`: choose only among tokens that re-execution takes for honest. Never caught. Carries
  `residual` of a token's raw bits, of which no more than the cap may leave.
* `duty`: choose freely on a share of tokens, stay quiet on the others. A free choice costs raw bits
  on the link where an honest token costs `bits_per_token`, so it has to fit into the headroom and
  into what may fail unnoticed. Verified tokens raise an alarm after `tokens_to_alarm`.
* `failing`: answers of an honest model end early, by error, after as many tokens as the message
  says: log2(tokens + 1) bits each, on no more of them than fail unnoticed.
* `thief`: send whatever the cap lets out. All answers fail, and somebody acts.

Caps are shared out by traffic: who owns a share of the machines has that share of the cap. Arrays
have shape [N] or broadcast to it; alike everywhere below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tidegate.plan import growth
from tidegate.plan.growth import F64Array
from tidegate.plan.scenario import outside_tokens
from tidegate.plan.units import YEAR

Values = Mapping[str, F64Array]
"""Each value of a scenario by name: one number, or one for each lifetime."""

DUTIES: Final = tuple(round(10 ** (-5 + step / 4), 12) for step in range(21))
"""Shares of tokens that `duty` chooses freely, ascending: 1e-5 to 1, four a decade."""

QUIET, FAILING, THIEF = "quiet", "failing", "thief"

STANDS_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    QUIET: ("admissible", "shaped", "edge", "noise_matching", "colluding", "colluding_cold"),
    "duty": ("full_stego", "duty_10"),
    FAILING: ("failing", "early_end", "grinding"),
    THIEF: ("thief",),
}
"""The red team's attacks that a strategy bounds."""


@dataclass(frozen=True, slots=True)
class Route:
    """One strategy's rate and how often it is caught.

    `first_N`: bits a day today. `ceiling_N`: bits a day at most. `g_N`: growth a day. Alarms come
    as a Poisson process: `a_token_N` for each token of his traffic, `a_day_N` for each day there.
    `fits_N`: whether the cap leaves room for it at all.
    """

    name: str
    duty: float
    first_N: F64Array
    ceiling_N: F64Array
    g_N: F64Array
    a_token_N: F64Array
    a_day_N: F64Array
    fits_N: F64Array


@dataclass(frozen=True, slots=True)
class Ground:
    """What all strategies share. `loot_N`: bits to be taken. `tokens_N`: a day of his own, today.
    `honest_N`: bits a day of all honest answers today. `cap_N`: bits a day of all today, which is
    `fixed` or follows honest use. `room_N`: headroom over honest use, as a share of it."""

    loot_N: F64Array
    tokens_N: F64Array
    honest_N: F64Array
    cap_N: F64Array
    room_N: F64Array
    g_N: F64Array
    fixed: bool


def ground(v: Values) -> Ground:
    """Weights, traffic and cap."""
    packed_N = v["attacker.lossless_compression"] * v["attacker.lossy_compression"]
    weights_N = 8 * v["model.parameters"] * v["model.bytes_per_parameter"]
    tokens_N = np.asarray(outside_tokens(v))
    honest_N = tokens_N * v["link.bits_per_token"]
    g_N = np.log(v["traffic.growth"]) / YEAR
    fixed = "link.cap" in v
    if fixed:
        # Shrinking traffic leaves ever more of a fixed cap free; what it comes to is taken.
        least_N = honest_N * np.minimum(1.0, np.exp(g_N * v["model.lifetime"]))
        with np.errstate(divide="ignore"):
            room_N = np.maximum(v["link.cap"] / np.maximum(least_N, 1e-300) - 1, 0.0)
        cap_N = v["link.cap"]
    else:
        room_N = v["link.headroom"]
        cap_N = honest_N * (1 + room_N)
    return Ground(
        loot_N=weights_N / packed_N,
        tokens_N=tokens_N * v["attacker.share_of_traffic"],
        honest_N=honest_N,
        cap_N=cap_N,
        room_N=room_N,
        g_N=g_N,
        fixed=fixed,
    )


def tokens_to_alarm(v: Values, duty: float) -> F64Array:
    """Verified tokens until an alarm, on average about, when `duty` of tokens are freely chosen.

    A test that may be looked at any time gains at most KL(seen || honest) nats a token on a rate of
    flags, and needs ln(1 / false alarms) of them; no alarm comes before the first such token.
    """
    honest_N = v["verification.honest_flags"]
    flagged_N = duty * v["verification.detection_power"]
    seen_N = honest_N + (1 - honest_N) * flagged_N
    with np.errstate(divide="ignore", invalid="ignore"):
        more_N = np.where(seen_N > 0, seen_N * np.log(seen_N / honest_N), 0.0)
        rest_N = 1 - seen_N
        less_N = np.where(rest_N > 0, rest_N * np.log(rest_N / (1 - honest_N)), 0.0)
        gain_N = more_N + less_N
        slow_N = np.where(gain_N > 0, -np.log(v["verification.false_alarms"]) / gain_N, np.inf)
        return np.maximum(1 / flagged_N, np.where(flagged_N > 0, slow_N, np.inf))


def routes(v: Values, on: Ground, duties: tuple[float, ...] = DUTIES) -> Iterator[Route]:
    """Every strategy, `duty` once for each share."""
    one_N = np.ones_like(on.loot_N + on.tokens_N)
    none_N = 0.0 * one_N
    share_N = v["attacker.share_of_traffic"]
    ceiling_N = share_N * on.cap_N if on.fixed else np.inf * one_N
    follows_N = np.inf * one_N if on.fixed else share_N * on.cap_N
    residual_N, raw_N = v["verification.residual"], v["link.raw_bits"]

    def hidden(
        name: str, duty: float, bits_N: F64Array, a_token_N: F64Array, fits_N: F64Array
    ) -> Route:
        first_N = np.minimum(follows_N, on.tokens_N * bits_N)
        return Route(name, duty, first_N, ceiling_N, on.g_N, a_token_N, none_N, fits_N)

    yield hidden(QUIET, 0.0, raw_N * residual_N * one_N, none_N, one_N)
    # A free choice costs this many bits more than the honest token it stands for.
    dearer_N = np.maximum(raw_N - v["link.bits_per_token"], 0.0)
    room_N = (on.room_N + v["link.unnoticed_failures"]) * v["link.bits_per_token"]
    for duty in duties:
        bits_N = raw_N * (residual_N + (1 - residual_N) * duty)
        a_token_N = v["verification.audit_rate"] / tokens_to_alarm(v, duty)
        fits_N = (duty * dearer_N <= room_N) * one_N
        if not fits_N.any():
            # Nor does any larger one.
            break
        yield hidden(duty_name(duty), duty, bits_N, a_token_N * one_N, fits_N)
    answer_N = v["traffic.answer_tokens"]
    ends_N = np.log2(answer_N + 1) / answer_N * v["link.unnoticed_failures"]
    yield hidden(FAILING, 0.0, ends_N * one_N, none_N, one_N)
    yield Route(
        THIEF,
        0.0,
        share_N * on.cap_N * one_N,
        np.inf * one_N,
        none_N if on.fixed else on.g_N * one_N,
        none_N,
        # Where all answers may fail unnoticed, nobody acts.
        (v["link.unnoticed_failures"] < 1) * one_N / v["response.notice"],
        one_N,
    )


def duty_name(duty: float) -> str:
    """What a duty cycle is called: the red team's names where it has one."""
    named = {1.0: "full_stego", 0.1: "duty_10"}
    return named.get(duty, f"duty_{duty:.2g}")


def alarms(v: Values, on: Ground, route: Route) -> tuple[F64Array, F64Array]:
    """Days of presence that the loot takes, and how many alarms come meanwhile on average."""
    there_N = growth.days(on.loot_N, route.first_N, route.ceiling_N, route.g_N)
    there_N = np.where(route.fits_N > 0, there_N, np.inf)
    finite_N = np.where(np.isfinite(there_N), there_N, 0.0)
    with np.errstate(over="ignore"):
        tokens_N = growth.total(finite_N, on.tokens_N, np.asarray(np.inf), on.g_N)
    with np.errstate(invalid="ignore"):
        by_token_N = np.where(route.a_token_N > 0, route.a_token_N * tokens_N, 0.0)
    caught_N = by_token_N + route.a_day_N * finite_N
    return there_N, np.where(np.isfinite(there_N), caught_N, 0.0)


def elapsed(v: Values, on: Ground, route: Route, there_N: F64Array, caught_N: F64Array) -> F64Array:
    """Days until the weights are out when he is caught `caught_N` times; inf for never.

    Absences are spread evenly: exact where traffic does not grow.
    """
    rotates = "model.rotation" in v
    if not (rotates or caught_N.any()):
        return there_N
    away_N = caught_N * v["attacker.return"]
    finite_N = np.where(np.isfinite(there_N), there_N, 1.0)
    present_N = finite_N / (finite_N + away_N)
    first_N, ceiling_N = route.first_N * present_N, route.ceiling_N * present_N
    if rotates:
        took_N = growth.days_within(on.loot_N, first_N, ceiling_N, route.g_N, v["model.rotation"])
    else:
        took_N = growth.days(on.loot_N, first_N, ceiling_N, route.g_N)
    return np.where(np.isfinite(there_N), took_N, np.inf)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The strategy that gets the weights out soonest, lifetime by lifetime.

    `names`: of all strategies; `number_N` says which of them. `there_N` and `caught_N` as `alarms`
    gives them; `days_N` on that average. `route` is a mixture: each lifetime has its own rate.
    """

    names: tuple[str, ...]
    number_N: F64Array
    route: Route
    there_N: F64Array
    caught_N: F64Array
    days_N: F64Array


def best(v: Values, on: Ground) -> Chosen:
    """What a thief who knows every value does. Ties go to the strategy named first."""
    names: list[str] = []
    held: list[F64Array] = []
    for number, route in enumerate(routes(v, on)):
        names.append(route.name)
        there_N, caught_N = alarms(v, on, route)
        days_N = elapsed(v, on, route, there_N, caught_N)
        row = [days_N, np.full_like(days_N, number), there_N, caught_N]
        row += [route.first_N, route.ceiling_N, route.g_N, route.a_token_N, route.a_day_N]
        sooner_N = days_N < held[0] if held else np.ones_like(days_N, dtype=np.bool_)
        held = [np.where(sooner_N, new, old) for new, old in zip(row, held or row, strict=True)]
    days_N, number_N, there_N, caught_N, first_N, ceiling_N, g_N, a_token_N, a_day_N = held
    fits_N = np.ones_like(days_N)
    mixed = Route("best", 0.0, first_N, ceiling_N, g_N, a_token_N, a_day_N, fits_N)
    return Chosen(tuple(names), number_N, mixed, there_N, caught_N, days_N)


BINDING: Final = (
    "the cap",
    "what re-execution lets pass",
    "how many tokens are served",
    "how many failures go unnoticed",
    "how soon he is caught",
    "headroom and unnoticed failures",
    "rotation of the weights",
)
"""What stands between the thief and more bits a day."""


def binding(v: Values, on: Ground, chosen: Chosen) -> F64Array:
    """Which of `BINDING` holds the best strategy back, by number."""
    names = np.array([*map(kind, chosen.names)])[chosen.number_N.astype(np.int64)]
    free_N = on.tokens_N * v["link.raw_bits"] * v["verification.residual"]
    capped_N = free_N > v["attacker.share_of_traffic"] * on.cap_N
    checked_N = (v["verification.residual"] < 1) * np.ones_like(free_N) > 0
    away_N = chosen.caught_N * v["attacker.return"] > chosen.there_N
    cases = [
        (~np.isfinite(chosen.days_N), 6),
        ((names == QUIET) & capped_N, 0),
        ((names == QUIET) & checked_N, 1),
        (names == QUIET, 2),
        (names == FAILING, 3),
        (away_N, 4),
        (names == "duty", 5),
    ]
    which = np.select([case for case, _ in cases], [number for _, number in cases], 0)
    return which.astype(np.float64)


def kind(name: str) -> str:
    """The strategy a route belongs to: every duty cycle is `duty`."""
    return name if name in (QUIET, FAILING, THIEF) else "duty"
