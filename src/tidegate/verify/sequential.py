"""Tests that may be looked at after every token, and stay valid.

An e-process starts at 1 and is a bet against honesty: while tokens are honest its expectation is at
most 1 at any stopping time, so by Ville's inequality it ever reaches 1/α with probability at most
α. Each stream bets on how often tokens are suspicious or dangerous; the bets are a mixture over
ways to cheat, fixed beforehand, so nothing is tuned on what is seen. (Ramdas, Grünwald, Vovk &
Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023.)

Honest means: given everything before it, a token is suspicious with probability at most
`Null.suspicious`, dangerous with at most `Null.dangerous`. Where honest mismatches come in bursts,
calibrate for it, or use `sequential_mean`, whose unit is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ConfigError
from tidegate.scan.evalues import log_sum
from tidegate.verify.calibrate import Point
from tidegate.verify.scores import DANGEROUS
from tidegate.verify.scores_rows import F64Array

FRACTIONS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.9)
"""Shares of tokens that the alternatives let deviate."""
SPLITS = (0.1, 0.5, 0.9)
"""Of the deviating tokens, how many they make suspicious rather than dangerous."""

_LEAST_RATE = 1e-9
_PRIOR = -math.log(len(FRACTIONS) * len(SPLITS))


class Null(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that honest tokens are suspicious and dangerous, given all before. Shares."""

    suspicious: float
    dangerous: float

    def __post_init__(self) -> None:
        """Raises ConfigError unless both lie strictly between 0 and 1 and sum to less than 1."""
        rates = (self.suspicious, self.dangerous)
        if any(not 0 < rate < 1 for rate in rates) or sum(rates) >= 1:
            raise ConfigError("honest rates lie between 0 and 1, and so does their sum")

    @staticmethod
    def of(point: Point) -> Null:
        """The upper ends of a calibrated point's rates."""
        return Null(
            min(max(point.suspicious.upper, _LEAST_RATE), 0.5),
            min(max(point.dangerous.upper, _LEAST_RATE), 0.49),
        )


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verified tokens by tier."""

    safe: int = 0
    suspicious: int = 0
    dangerous: int = 0

    @classmethod
    def of(cls, tier_T: NDArray[np.int8]) -> Counts:
        """Counted from what `scores.tiers` gives."""
        safe, suspicious, dangerous = np.bincount(tier_T, minlength=DANGEROUS + 1).tolist()
        return cls(safe, suspicious, dangerous)

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.safe + self.suspicious + self.dangerous

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            self.safe + other.safe,
            self.suspicious + other.suspicious,
            self.dangerous + other.dangerous,
        )


class Wager(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stream's e-process: natural logarithm of the wealth of each alternative, and what it has
    seen. Everything needed to go on later; JSON through msgspec."""

    log_wealth: tuple[float, ...] = (0.0,) * (len(FRACTIONS) * len(SPLITS))
    seen: Counts = Counts()

    @property
    def log_e(self) -> float:
        """Natural logarithm of the e-value now."""
        return log_sum([wealth + _PRIOR for wealth in self.log_wealth])


def observe(wager: Wager, null: Null, counts: Counts) -> Wager:
    """The wager after a batch of verified tokens; their order within it does not matter.

    Against rates (s, d) an alternative (s', d'), both at least as large, pays s'/s on a suspicious
    token, d'/d on a dangerous one and (1 - s' - d') / (1 - s - d) on a safe one: in expectation 1
    at the rates themselves and less below them.
    """
    gains_J = _log_payoffs(null) @ np.array([counts.safe, counts.suspicious, counts.dangerous])
    wealth = tuple((np.array(wager.log_wealth) + gains_J).tolist())
    return Wager(wealth, wager.seen.plus(counts))


def merge_product(log_es: Sequence[float]) -> float:
    """Natural logarithm of Π e: an e-value where the streams are independent, or where each bet is
    fair given all other streams' pasts, as those of `observe` are when the null says so."""
    return math.fsum(log_es)


def tokens_to_alarm(null: Null, fraction: float, suspicious: float, false_alarms: float) -> float:
    """Verified tokens until an alarm, about, when `fraction` of tokens deviate and that share of
    the deviating ones is suspicious rather than dangerous; inf where no bet grows."""
    true_K = np.array(
        [
            (1 - fraction) * (1 - null.suspicious - null.dangerous),
            null.suspicious * (1 - fraction) + fraction * suspicious,
            null.dangerous * (1 - fraction) + fraction * (1 - suspicious),
        ]
    )
    growth = float((_log_payoffs(null) @ true_K).max())
    return math.inf if growth <= 0 else (-math.log(false_alarms) - _PRIOR) / growth


@lru_cache(maxsize=256)
def _log_payoffs(null: Null) -> F64Array:
    """[alternatives, 3]: log payoff on a safe, a suspicious and a dangerous token."""
    rows = []
    honest = 1 - null.suspicious - null.dangerous
    for fraction in FRACTIONS:
        for split in SPLITS:
            moved = fraction * honest
            rows.append(
                (
                    math.log1p(-fraction),
                    math.log1p(moved * split / null.suspicious),
                    math.log1p(moved * (1 - split) / null.dangerous),
                )
            )
    return np.array(rows)
