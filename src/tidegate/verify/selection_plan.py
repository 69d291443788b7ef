"""What a rate of selection buys and costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from tidegate.errors import ConfigError
from tidegate.verify.selection import Policy, threshold

LEVELS = (0.5, 0.9, 0.99, 0.999)
"""Confidences that a plan is worked out for."""


def needed(rate: float, confidence: float) -> int | None:
    """Deviating messages (or tokens, by token) after which one is selected with `confidence`.

    The least n with 1 - (1 - rate)^n >= confidence, that is ln(1 - c)/ln(1 - p) rounded up: 459 for
    1% at 99%, where the shorthand -ln(1 - c)/p gives 460.5. None if no number is enough.

    Raises:
        ConfigError: a rate outside 0 to 1, or a confidence not between them.
    """
    if not (0.0 <= rate <= 1.0 and 0.0 < confidence < 1.0):
        raise ConfigError("rate and confidence lie between 0 and 1")
    if rate == 0.0:
        return None
    if rate == 1.0:
        return 1
    # Floats put a whole quotient a hair above itself.
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate) - 1e-9)


def detected(rate: float, deviating: int, power: float = 1.0) -> float:
    """The chance that of `deviating` messages or tokens at least one is selected and recognised.

    `power` is the chance that a selected one is recognised.
    """
    return -math.expm1(deviating * math.log1p(-rate * power)) if rate * power < 1.0 else 1.0


class Level(msgspec.Struct, frozen=True):
    """So many deviating messages (or tokens) are selected at least once with `confidence`."""

    confidence: float
    needed: int | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy selects of the traffic it was worked out for, and what that costs.

    `generation_share` is the expected work as a share of what generating took.
    """

    by: str
    rate: float
    messages: int
    tokens: int
    expected_messages: float
    expected_tokens: float
    generation_share: float
    levels: tuple[Level, ...]

    def lines(self) -> tuple[str, ...]:
        """The plan in sentences, for people."""
        unit = "token" if self.by == "token" else "message"
        share = self.expected_tokens / self.tokens if self.tokens else 0.0
        told = [
            f"{self.rate:.4%} of {unit}s are drawn.",
            f"Replayed are {self.expected_messages:,.1f} of {self.messages:,} messages.",
            f"They hold {self.expected_tokens:,.0f} of {self.tokens:,} tokens ({share:.2%}).",
            f"That costs {self.generation_share:.2%} of the work of generating.",
        ]
        for level in self.levels:
            after = "never" if level.needed is None else f"after {level.needed:,} deviating {unit}s"
            told.append(f"At least one is drawn with {level.confidence:.1%}: {after}.")
        return tuple(told)


def plan(policy: Policy, lengths: Iterable[int], *, replay_over_generate: float = 1.0) -> Plan:
    """What `policy` does to answers of these lengths in tokens.

    Args:
        policy: what is selected.
        lengths: tokens of each answer, of a record or assumed.
        replay_over_generate: time to replay a token over that to generate it, from the bench.

    Raises:
        ConfigError: the ratio is negative or not finite.
    """
    if not (math.isfinite(replay_over_generate) and replay_over_generate >= 0.0):
        raise ConfigError("the cost of replaying is a ratio from 0")
    messages = tokens = 0
    chosen = work = 0.0
    for length in lengths:
        chance = threshold(policy, length) / 2.0**128
        messages, tokens = messages + 1, tokens + length
        chosen, work = chosen + chance, work + chance * length
    rate = float(policy.rate)
    return Plan(
        by=policy.by,
        rate=rate,
        messages=messages,
        tokens=tokens,
        expected_messages=chosen,
        expected_tokens=work,
        generation_share=replay_over_generate * work / tokens if tokens else 0.0,
        levels=tuple(Level(level, needed(rate, level)) for level in LEVELS),
    )
