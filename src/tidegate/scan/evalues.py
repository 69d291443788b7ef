"""What tests by betting share: adding in logarithms, merging, and spending a false-alarm rate.

(Vovk & Wang, "E-values: calibration, combination and applications", 2021.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tidegate.errors import ConfigError


def log_sum(logs: Sequence[float]) -> float:
    """Natural logarithm of Σ exp(log); -inf where all of them are. At least one log."""
    top = max(logs)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(log - top) for log in logs))


def merge_average(log_es: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Natural logarithm of Σ w e, an e-value whatever the dependence (Vovk & Wang 2021).

    Weights sum to at most 1; what is left over stays as 1. Equal ones by default. Raises
    ConfigError for others.
    """
    if weights is None:
        weights = [1 / len(log_es)] * len(log_es)
    if len(weights) != len(log_es) or any(w < 0 for w in weights) or math.fsum(weights) > 1 + 1e-9:
        raise ConfigError("weights of e-values are not negative and sum to at most 1")
    rest = max(0.0, 1.0 - math.fsum(weights))
    terms = [math.log(w) + log_e for w, log_e in zip(weights, log_es, strict=True) if w > 0]
    return log_sum([*terms, *([math.log(rest)] if rest > 1e-12 else [])])


def spend(false_alarms: float, index: int) -> float:
    """The share of a false-alarm rate for the index-th stream (from 1): α / (i (i + 1)).

    Streams may keep appearing for ever; the shares sum to α. Raises ConfigError below 1.
    """
    if index < 1:
        raise ConfigError("streams are counted from 1")
    return false_alarms / (index * (index + 1))
