"""Every value a scenario has: its unit, its limits, what it means, and what stands if it is left
out. The one table that reading, reckoning, sensitivities and the docs all go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.plan import units
from tidegate.plan.units import Dimension


@dataclass(frozen=True, slots=True)
class Default:
    """What stands where a scenario says nothing, in the base unit, and why."""

    value: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class Field:
    """One value. Limits are in the base unit, `least` itself being allowed unless `above`."""

    dimension: Dimension
    means: str
    least: float = 0.0
    most: float = float("inf")
    above: bool = False
    default: Default | None = None
    optional: bool = False
    """May be left out, and then there is none: no cap, no rotation, no price."""
    threat: int = 0
    """+1 where more of it never gives the thief more days, -1 where it never gives him fewer."""

    def valid(self) -> str:
        """What a value has to be, for people."""
        base = self.dimension.base
        if self.most < float("inf"):
            low = "above" if self.above else "from"
            return f"a number {low} {self.least:g} to {self.most:g} {base}"
        return f"a number {'above' if self.above else 'from'} {self.least:g} {base}"


def _fixed(value: float, source: str) -> Default:
    return Default(value, value, value, source)


_SAYS_NOTHING: Final = "assumed: the scenario does not say"

FIELDS: Final[Mapping[str, Field]] = {
    "model.parameters": Field(
        units.PARAMETERS,
        "size of the model whose weights are kept",
        above=True,
        most=1e18,
        threat=-1,
    ),
    "model.bytes_per_parameter": Field(
        units.BYTES_A_PARAMETER, "as the weights are served", above=True, most=8, threat=-1
    ),
    "model.lifetime": Field(
        units.DAYS, "how long it is served and worth stealing", above=True, most=100 * units.YEAR
    ),
    "model.rotation": Field(
        units.DAYS,
        "how often the weights become others, so that older loot is worthless",
        above=True,
        most=1e6,
        optional=True,
        threat=1,
    ),
    "attacker.lossless_compression": Field(
        units.TIMES, "how far he packs weights without loss", least=1, most=100, threat=1
    ),
    "attacker.lossy_compression": Field(
        units.TIMES, "how far he packs them besides, losing little", least=1, most=100, threat=1
    ),
    "attacker.share_of_traffic": Field(
        units.SHARE, "of all answers, those from machines he owns", above=True, most=1, threat=1
    ),
    "attacker.return": Field(
        units.DAYS,
        "from being caught until he is back, his loot kept",
        most=1e6,
        default=Default(30, 7, 365, "assumed: as long as an intrusion takes; nobody measured it"),
        threat=-1,
    ),
    "traffic.tokens": Field(
        units.TOKENS_A_DAY,
        "processed today, prompts included",
        above=True,
        most=1e20,
    ),
    "traffic.growth": Field(
        units.GROWTH,
        "of traffic",
        above=True,
        most=100,
        default=_fixed(1, _SAYS_NOTHING),
    ),
    "traffic.output_share": Field(
        units.SHARE,
        "of tokens, those the model wrote",
        above=True,
        most=1,
    ),
    "traffic.reasoning_inside": Field(
        units.SHARE,
        "of written tokens, reasoning that stays inside",
        most=1,
        default=_fixed(0, _SAYS_NOTHING),
    ),
    "traffic.drafts": Field(
        units.TIMES,
        "drafts written for each answer, of which one leaves (best of N)",
        least=1,
        most=1024,
        default=_fixed(1, _SAYS_NOTHING),
    ),
    "traffic.answer_tokens": Field(
        units.TOKENS,
        "in one answer",
        least=1,
        most=1e7,
        default=Default(500, 100, 2000, "assumed: some paragraphs"),
    ),
    "zones.internal_share": Field(
        units.SHARE,
        "of answers, those read in zones beside the weights",
        most=1,
        default=_fixed(0, _SAYS_NOTHING),
    ),
    "zones.internal_escapes": Field(
        units.SHARE,
        "of those, what gets outside all the same",
        most=1,
        default=_fixed(0, _SAYS_NOTHING),
    ),
    "link.raw_bits": Field(
        units.BITS_A_TOKEN,
        "that one freely chosen token can say, about log2 V",
        above=True,
        most=64,
        default=_fixed(16, "assumed: two bytes a token, a vocabulary of 65,536"),
    ),
    "link.bits_per_token": Field(
        units.BITS_A_TOKEN, "that cross the link for an honest answer", above=True, most=64
    ),
    "link.cap": Field(
        units.BITS_A_DAY,
        "the most that may leave, a number",
        above=True,
        most=1e24,
        optional=True,
        threat=1,
    ),
    "link.headroom": Field(
        units.SHARE,
        "by which a cap that follows honest use lies above it",
        most=1000,
        optional=True,
        threat=1,
    ),
    "link.unnoticed_failures": Field(
        units.SHARE,
        "of honest answers, those that can fail without anybody asking why",
        most=1,
        default=Default(0.01, 0.001, 0.05, "assumed: usual error budgets of services"),
        threat=1,
    ),
    "verification.residual": Field(
        units.SHARE,
        "of a token's raw bits, what passes re-execution unseen; 1 where nothing is verified",
        most=1,
        default=_fixed(1, "assumed: nothing is verified"),
        threat=1,
    ),
    "verification.audit_rate": Field(
        units.SHARE,
        "of outside tokens, those re-executed",
        most=1,
        default=_fixed(0, "assumed: nothing is verified"),
        threat=-1,
    ),
    "verification.detection_power": Field(
        units.SHARE,
        "chance that a re-executed token of his own choice is flagged",
        most=1,
        default=Default(0.99, 0.9, 1.0, "assumed: few of his choices lie within the margin"),
        threat=-1,
    ),
    "verification.honest_flags": Field(
        units.SHARE,
        "of honest tokens, those flagged; 0 between integer-exact machines",
        most=0.5,
        default=_fixed(0, "assumed: an integer-exact verifier, tidegate bench exact"),
        threat=1,
    ),
    "verification.false_alarms": Field(
        units.SHARE,
        "chance that an honest fleet ever raises an alarm",
        above=True,
        most=0.1,
        default=_fixed(1e-6, "assumed: as tidegate verify is set"),
    ),
    "response.notice": Field(
        units.DAYS,
        "until somebody acts when all answers fail",
        above=True,
        most=1e6,
        default=Default(1 / 24, 1 / 288, 1, "assumed: an hour; a service that is down is seen"),
        threat=1,
    ),
    "cost.verify_over_generate": Field(
        units.TIMES,
        "work to re-execute a token over that of writing it",
        most=10,
        default=Default(0.45, 0.14, 1, "measured: tidegate bench verify --only speed"),
    ),
    "cost.link_slowdown": Field(
        units.SHARE,
        "of throughput, what the link costs",
        most=0.99,
        default=Default(0.05, 0.0, 0.2, "measured: tidegate bench serve --only speed"),
    ),
    "cost.price": Field(
        units.PRICE, "of serving, to put the defence in money", above=True, most=1e9, optional=True
    ),
}

SECTIONS: Final = tuple(dict.fromkeys(name.split(".")[0] for name in FIELDS))


def names_of(section: str) -> tuple[str, ...]:
    """The values of one section, without its name."""
    return tuple(name.split(".")[1] for name in FIELDS if name.startswith(section + "."))
