"""Intervals for shares that were counted: what a sample can carry, and what it cannot."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tidegate.errors import ConfigError, TidegateError
from tidegate.verify.scores_rows import F64Array, I64Array

RESAMPLES = 2000
_BISECTIONS = 60


class SampleTooSmallError(TidegateError):
    """A claim was asked for that the sample cannot carry. Details: `have` and `need`."""

    code = "sample_too_small"


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval for a share, each side with half of 1 - `confidence`."""

    low: float
    high: float
    confidence: float


def clopper_pearson(events: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact binomial interval (Clopper & Pearson 1934); covers for independent trials.

    Raises ConfigError unless 0 <= events <= trials, trials >= 1 and 0 < confidence < 1.
    """
    _check(events, trials, confidence)
    side = (1 - confidence) / 2
    low = 0.0 if events == 0 else 1 - _upper(trials - events, trials, side)
    high = 1.0 if events == trials else _upper(events, trials, side)
    return Interval(low, high, confidence)


def upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """The one-sided exact binomial bound: shares above it would have shown more events.

    With no event in n trials it is 1 - (1 - confidence)^(1/n), about 3 / n at 95%. Raises as
    `clopper_pearson`.
    """
    _check(events, trials, confidence)
    return 1.0 if events == trials else _upper(events, trials, 1 - confidence)


def trials_needed(share: float, confidence: float = 0.95, events: int = 0) -> int:
    """The fewest independent trials, `events` of them bad, that show a share of at most `share`.

    Raises ConfigError unless share and confidence lie strictly between 0 and 1.
    """
    if not 0 < share < 1 or not 0 < confidence < 1:
        raise ConfigError("a share and a confidence lie strictly between 0 and 1")
    low, high = events, max(1, events)
    while _at_most(events, high, share) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _at_most(events, middle, share) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def claim_at_most(share: float, events: int, trials: int, confidence: float = 0.95) -> float:
    """The upper bound, where it supports "at most `share`".

    Raises SampleTooSmallError, naming the trials needed, where it does not.
    """
    bound = upper_bound(events, trials, confidence)
    if bound > share:
        need = trials_needed(share, confidence, events)
        raise SampleTooSmallError(
            f"{trials} trials with {events} events do not show a share of at most {share:g} at "
            f"{confidence:.0%}: {need} trials with no more events would; measure more, or claim "
            f"{bound:.3g}",
            have=trials,
            need=need,
            supported=bound,
        )
    return bound


def bootstrap(
    events_S: I64Array | F64Array,
    trials_S: I64Array,
    *,
    seed: bytes,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile interval of sum(events) / sum(trials), resampling whole sequences.

    Tokens of one answer share their context, so the answer is the unit. With no event at all it is
    [0, 0]: use `upper_bound` beside it. Fixed by `seed`. Raises ConfigError for no sequence.
    """
    if events_S.size == 0 or events_S.size != trials_S.size or trials_S.sum() == 0:
        raise ConfigError("a bootstrap needs at least one sequence with a token")
    count = events_S.size
    drawn = hashlib.shake_256(b"tidegate.bootstrap.v1" + seed).digest(4 * resamples * count)
    uniform_N = np.frombuffer(drawn, "<u4").astype(np.int64)
    places_BS = (uniform_N * count >> 32).reshape(resamples, count)
    trials_B = np.maximum(trials_S[places_BS].sum(axis=1), 1)
    shares_B = events_S[places_BS].sum(axis=1) / trials_B
    side = (1 - confidence) / 2
    low, high = np.quantile(shares_B, [side, 1 - side])
    return Interval(float(low), float(high), confidence)


def design_effect(events_S: I64Array, trials_S: I64Array) -> float:
    """How many tokens are worth one independent token: at least 1 (Kish 1965, section 8.2).

    The variance of the share with whole sequences as units, over the binomial one; 1 where there
    are no events, or only one sequence, since nothing can then be said.
    """
    total, events = float(trials_S.sum()), float(events_S.sum())
    count = events_S.size
    if count < 2 or not 0 < events < total:
        return 1.0
    share = events / total
    residual_S = events_S - share * trials_S
    clustered = count / (count - 1) * float((residual_S**2).sum()) / total**2
    return max(1.0, clustered / (share * (1 - share) / total))


def conformal_margin(margin_N: F64Array, false_alarms: float) -> float:
    """The smallest measured margin that a further exchangeable token exceeds with probability at
    most `false_alarms` (split conformal; Vovk, Gammerman & Shafer 2005).

    margin_N: honest margins of the calibration split, inf allowed. Raises SampleTooSmallError where
    there are fewer than 1 / false_alarms - 1.
    """
    rank = math.ceil((margin_N.size + 1) * (1 - false_alarms))
    if rank > margin_N.size:
        raise SampleTooSmallError(
            f"{margin_N.size} honest tokens cannot place a margin that only {false_alarms:g} of "
            "them exceed; measure more",
            have=margin_N.size,
            need=math.ceil(1 / false_alarms) - 1,
        )
    return float(np.partition(margin_N, rank - 1)[rank - 1])


def conformal_p(margin_N: F64Array, new_M: F64Array) -> F64Array:
    """p-values: the share of honest margins, the new one included, that are at least as large.

    Each is valid alone for a token exchangeable with the calibration tokens; together they are
    dependent through the calibration set. [M].
    """
    ordered_N = np.sort(margin_N)
    larger_M = margin_N.size - np.searchsorted(ordered_N, new_M, side="left")
    p_M: F64Array = (1 + larger_M) / (1 + margin_N.size)
    return p_M


def _check(events: int, trials: int, confidence: float) -> None:
    if not 0 <= events <= trials or trials < 1 or not 0 < confidence < 1:
        raise ConfigError(
            "an interval needs 0 <= events <= trials and a confidence between 0 and 1",
            events=events,
            trials=trials,
        )


def _upper(events: int, trials: int, tail: float) -> float:
    """The share at which `events` or fewer have probability `tail`."""
    return _falling(lambda share: _at_most(events, trials, share), tail)


def _falling(function: Callable[[float], float], value: float) -> float:
    """Where a falling function of a share reaches a value, rounded up."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if function(middle) > value:
            low = middle
        else:
            high = middle
    return high


def _at_most(events: int, trials: int, share: float) -> float:
    """P(Binomial(trials, share) <= events), summed from its logarithms."""
    if events >= trials or share <= 0.0:
        return 1.0
    if share >= 1.0:
        return 0.0
    i_E = np.arange(1, events + 1)
    steps_E = np.log((trials - i_E + 1) / i_E) + math.log(share) - math.log1p(-share)
    logs_E = np.concatenate([[0.0], np.cumsum(steps_E)]) + trials * math.log1p(-share)
    top = logs_E.max()
    return min(1.0, float(np.exp(logs_E - top).sum() * math.exp(top)))
