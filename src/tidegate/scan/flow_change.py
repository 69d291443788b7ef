"""Has it changed? Two detectors over a flow's scores, each with a stated false-alarm rate. Pure.

**CUSUM** (Page 1954) is the quickest where scores are what they are meant to be: independent and
normal with variance 1. The mean number of bins between false alarms then follows from its threshold
(Siegmund, "Sequential Analysis", 1985, section 10.2), and so does the delay.

An **e-detector** (Shin, Ramdas & Rinaldo, "E-detectors: a nonparametric framework for sequential
change detection", 2024) asks for less: that an honest score, cut to a range, has a mean of at most
`allowed` given all before. Whatever else its distribution is, false alarms come at least
`false_alarm_every` bins apart on average. It is some bins slower; where the two differ, believe it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from tidegate.errors import ConfigError
from tidegate.scan.evalues import log_sum
from tidegate.scan.flow import Bin, Predictor, correlation

_OVERSHOOT: Final = 1.166
"""What a normal random walk steps beyond its barriers, both together (Siegmund)."""

LOWEST, HIGHEST = -1.5, 30.0
"""Scores are cut to this range for the e-detector: a lower end near 0 allows larger stakes."""
STAKES: Final = tuple(0.9 * 0.5**n for n in range(8))
"""Shares of the largest stake; the larger find jumps quickly, the smaller find drips at all."""
_NO_BET = -1e300
"""Natural logarithm of nothing, as JSON can hold it."""
_CERTAINTY = 3.0
"""Standard errors by which the honest mean may exceed the one seen in calibration."""


def mean_run(drift: float, threshold: float) -> float:
    """Bins until a CUSUM of normal scores with mean `drift` beyond the reference alarms, on
    average, from 0."""
    height = threshold + _OVERSHOOT
    if abs(drift) < 1e-6:
        return height**2
    exponent = -2 * drift * height
    if exponent > 700:
        return math.inf
    return (math.exp(exponent) - exponent - 1) / (2 * drift**2)


def threshold_for(reference: float, false_alarm_every: float) -> float:
    """The lowest threshold whose false alarms are that many bins apart. Raises ConfigError."""
    if not 0 < reference < math.inf or not 1 < false_alarm_every < math.inf:
        raise ConfigError("a CUSUM needs a reference above 0 and more than 1 bin to a false alarm")
    low, high = 0.0, 1e4 / reference
    for _ in range(100):
        middle = (low + high) / 2
        if mean_run(-reference, middle) < false_alarm_every:
            low = middle
        else:
            high = middle
    return high


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to look for. `shift`: standard deviations that the CUSUM is quickest at; it is at most
    somewhat slower at others. `false_alarm_every`: bins, on average, for each detector alone.
    `allowed`: the most that honest scores, cut to [`LOWEST`, `HIGHEST`], are on average."""

    shift: float = 1.0
    false_alarm_every: float = 10_000.0
    allowed: float = 0.1

    def __post_init__(self) -> None:
        """Raises ConfigError for what no detector can do."""
        threshold_for(self.shift / 2, self.false_alarm_every)
        if not LOWEST < self.allowed < HIGHEST:
            raise ConfigError(f"an honest mean lies between {LOWEST:g} and {HIGHEST:g}")

    @property
    def threshold(self) -> float:
        """Of the CUSUM, in standard deviations."""
        return threshold_for(self.shift / 2, self.false_alarm_every)

    def delay(self, shift: float) -> float:
        """Bins until the CUSUM finds a shift of that many standard deviations, on average."""
        return mean_run(shift - self.shift / 2, self.threshold)


def tuned(
    predictor: Predictor, bins: Sequence[Bin], *, share: float, false_alarm_every: float
) -> Tuning:
    """Tuned to find that `share` more bytes leave, with what honest bins do on average.

    The bins should not be those the predictor was fitted on. Raises ConfigError without bins, or
    where they bill nothing.
    """
    shifts = [
        share * size / predictor.spread(one)
        for one in bins
        if (size := predictor.predicted(one)) > 0
    ]
    if not shifts:
        raise ConfigError("there are no bins to tune the detectors on")
    scores = [predictor.score(one) for one in bins]
    cut_N = np.clip(scores, LOWEST, HIGHEST)
    # Neighbours that resemble each other are worth fewer: the usual correction for one lag.
    near = min(max(correlation(cut_N.tolist()), 0.0), 0.9)
    error = float(np.std(cut_N)) * math.sqrt((1 + near) / (1 - near) / len(cut_N))
    allowed = max(0.0, float(np.mean(cut_N))) + _CERTAINTY * error
    return Tuning(
        shift=min(max(float(np.median(shifts)), 0.05), 4.0),
        false_alarm_every=false_alarm_every,
        allowed=min(allowed, 1.0),
    )


class Cusum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`value` in standard deviations; `since`: bins since it was last 0, the likeliest beginning
    of a change; `excess`: bytes beyond the prediction in those bins."""

    value: float = 0.0
    since: int = 0
    excess: float = 0.0

    def observe(self, score: float, residual: float, reference: float) -> Cusum:
        """After one more bin."""
        value = max(0.0, self.value + score - reference)
        return Cusum(value, self.since + 1, self.excess + residual) if value else Cusum()


class EDetector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shiryaev-Roberts e-detector: for every bin a bet begins that the change is here, and all of
    them together are worth `log_e`. One for each of `STAKES`, mixed evenly."""

    log_wealth: tuple[float, ...] = (_NO_BET,) * len(STAKES)

    @property
    def log_e(self) -> float:
        """Natural logarithm of the mixture."""
        return log_sum(self.log_wealth) - math.log(len(STAKES))

    def observe(self, score: float, allowed: float) -> EDetector:
        """After one more bin: each bet pays 1 + stake·(cut score - allowed), never below 0."""
        gain = min(max(score, LOWEST), HIGHEST) - allowed
        largest = 1 / (allowed - LOWEST)
        return EDetector(
            tuple(
                log_sum((wealth, 0.0)) + math.log1p(stake * largest * gain)
                for wealth, stake in zip(self.log_wealth, STAKES, strict=True)
            )
        )


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm. `detector`: `cusum` or `e-detector`. `statistic` crossed `threshold` (of the
    e-detector as natural logarithms); false alarms of it are `false_alarm_every` bins apart. The
    likeliest beginning is `since` bins back, and `excess` bytes beyond the bill left since."""

    detector: str
    at: float
    began: float
    since: int
    excess: float
    statistic: float
    threshold: float
    false_alarm_every: float

    def __str__(self) -> str:
        return (
            f"{self.excess:,.0f} bytes more left in {self.since} bins than the billed tokens "
            f"explain; the {self.detector} stands at {self.statistic:.1f} and honest traffic "
            f"brings it to {self.threshold:.1f} once in {self.false_alarm_every:,.0f} bins"
        )


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both detectors over one class of traffic; everything needed to go on later."""

    predictor: Predictor
    tuning: Tuning
    cusum: Cusum = Cusum()
    edetector: EDetector = EDetector()
    began: float = 0.0


def observe(watch: Watch, observed: Bin) -> tuple[Watch, tuple[Shift, ...]]:
    """The watch after one more bin, and the alarms it raises; whichever alarms begins anew."""
    predictor, tuning = watch.predictor, watch.tuning
    score, residual = predictor.score(observed), predictor.residual(observed)
    cusum = watch.cusum.observe(score, residual, tuning.shift / 2)
    edetector = watch.edetector.observe(score, tuning.allowed)
    began = observed.start if cusum.since <= 1 else watch.began
    reached = (
        ("cusum", cusum.value, tuning.threshold),
        ("e-detector", edetector.log_e, math.log(tuning.false_alarm_every)),
    )
    alarms = tuple(
        Shift(
            detector=detector,
            at=observed.start,
            began=began,
            since=cusum.since,
            excess=cusum.excess,
            statistic=statistic,
            threshold=threshold,
            false_alarm_every=tuning.false_alarm_every,
        )
        for detector, statistic, threshold in reached
        if statistic >= threshold
    )
    told = {alarm.detector for alarm in alarms}
    after = Watch(
        predictor,
        tuning,
        Cusum() if "cusum" in told else cusum,
        EDetector() if "e-detector" in told else edetector,
        began,
    )
    return after, alarms
