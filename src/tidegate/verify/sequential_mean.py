"""Anytime-valid tests and bounds for a mean, with the answer as the unit.

Honest mismatches may come in bursts: one odd answer can hold many. Here each observation is one
answer's average, between 0 and a known most, and the only assumption is its mean given what came
before. (Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", 2024.)
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from tidegate.errors import ConfigError
from tidegate.verify.scores_rows import F64Array

_STAKES = tuple(0.5 ** (n + 1) for n in range(10))
"""Shares of what may be staked at all when betting that a mean is larger than allowed."""
_BETS = tuple(0.5**n for n in range(12))
"""Bets that a mean is smaller than some bound; at most 1, so no observation ruins them."""
_BISECTIONS = 40


class MeanWager(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An e-process against "the mean is at most `allowed`", for observations in [0, 1]."""

    allowed: float
    log_wealth: tuple[float, ...] = (0.0,) * len(_STAKES)
    answers: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError unless the allowed mean lies strictly between 0 and 1."""
        if not 0 < self.allowed < 1:
            raise ConfigError("an allowed mean lies strictly between 0 and 1")

    @property
    def log_e(self) -> float:
        """Natural logarithm of the e-value now."""
        top = max(self.log_wealth)
        return top + math.log(
            math.fsum(math.exp(wealth - top) for wealth in self.log_wealth) / len(_STAKES)
        )


def observe_mean(wager: MeanWager, values_S: F64Array) -> MeanWager:
    """The wager after some answers' averages, each in [0, 1]. Raises ConfigError for others."""
    _check(values_S)
    bets_B = np.array(_STAKES) / wager.allowed
    gains_B = np.log1p(np.multiply.outer(values_S - wager.allowed, bets_B)).sum(axis=0)
    wealth = tuple((np.array(wager.log_wealth) + gains_B).tolist())
    return MeanWager(wager.allowed, wealth, wager.answers + values_S.size)


def upper_mean(values_S: F64Array, false_alarms: float, most: float = 1.0) -> float:
    """A bound on the mean of observations in [0, `most`] that holds at any stopping time.

    With probability 1 - `false_alarms` the mean never lies above it, however long one goes on and
    whenever one looks; about ln(1/α)/n where all n observations are 0. Raises ConfigError for
    observations outside, none at all, or a rate that is not between 0 and 1.
    """
    if not 0 < false_alarms < 1 or not 0 < most < math.inf or values_S.size == 0:
        raise ConfigError("a bound needs observations, their most and a rate between 0 and 1")
    values_S = values_S / most
    _check(values_S)
    low, high = float(values_S.mean()), 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _log_wealth_below(values_S, middle) >= -math.log(false_alarms):
            high = middle
        else:
            low = middle
    return high * most


def _log_wealth_below(values_S: F64Array, bound: float) -> float:
    """The wealth of betting that the mean lies below `bound`."""
    gains_B = np.log1p(np.multiply.outer(bound - values_S, np.array(_BETS))).sum(axis=0)
    top = float(gains_B.max())
    return top + math.log(float(np.exp(gains_B - top).mean()))


def _check(values_S: F64Array) -> None:
    if not bool(((values_S >= 0) & (values_S <= 1)).all()):
        raise ConfigError("an observation lies outside its range")
