"""How soon 2% more bytes than the bill explains are found, on an API's traffic that drifts.

The events are the API's own, as `openai_api` writes them, around pieces of the packaged prompts;
who asks how much, how long answers are, how many tokens an event carries and what is lost and sent
again are drawn, and change through the day as users do. Nothing is sent anywhere.
What the drawn traffic lacks, such as bursts of loss and other programs, is added as noise of a
stated size, because that noise decides how soon a shift is found.
"""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tidegate.bench.figures import Figure, at_most, report
from tidegate.bench.prompts import beside_or_packaged, read
from tidegate.openai_api.responses import ChatShape, Stamp
from tidegate.scan.flow import UNITS, Bin, Predictor, fit
from tidegate.scan.flow_change import Tuning, Watch, mean_run, observe, tuned

F64Array = NDArray[np.float64]

NOISE: Final = 0.02
"""Standard deviation of what a bin holds beside the API's own answers, as a share of its bytes."""
ADDED: Final = 0.02
"""Of the bytes an honest bin holds, what the thief adds."""
FALSE_ALARM_EVERY: Final = 3_600.0
"""Bins of a minute: once in two and a half days, for each detector."""
_MINUTES = 24 * 60
_CALIBRATION, _TUNING = _MINUTES, _MINUTES
_ALLOWED_BINS: Final = 20.0
_LONGEST: Final = 400
"""Bins after which a search is given up and counted as this long."""

_PIECE = re.compile(r"\s?\w{1,6}|\s?[^\w\s]|\s")
"""About what a tokenizer takes for a token."""
_HEADERS = 14 + 20 + 32
"""Ethernet, IPv4 and TCP with timestamps, of each packet."""
_TLS = 22
"""A record of TLS 1.3: header, type and tag."""
_MSS = 1448
_LOST = 0.002
"""Share of packets that are sent again."""
_HEAD = 220
"""Bytes of an answer's HTTP headers."""


@dataclass(frozen=True, slots=True)
class _User:
    """`rate`: answers a minute on average. `size`: bytes of one of his tokens in an event."""

    rate: float
    tokens: float
    streamed: float
    size: float


class _Draws:
    """Uniform numbers from a name, as many as are asked for, the same on every machine."""

    def __init__(self, name: str) -> None:
        self._name, self._calls = name, 0

    def uniform(self, count: int) -> F64Array:
        self._calls += 1
        seed = f"{self._name}/{self._calls}".encode()
        words = np.frombuffer(hashlib.shake_128(seed).digest(4 * count), "<u4")
        return (words + 0.5) / 2**32

    def normal(self, count: int) -> F64Array:
        radius = np.sqrt(-2 * np.log(self.uniform(count)))
        drawn: F64Array = radius * np.cos(2 * math.pi * self.uniform(count))
        return drawn


def traffic(name: str, minutes: int, noise: float) -> list[Bin]:
    """Honest bins of a minute: a day that has busy hours, users whose habits wander."""
    draws = _Draws(name)
    users, envelope = _users(), _envelope()
    # Each user's activity wanders by a few percent a minute, and comes back over some hours.
    wander = np.zeros(len(users))
    bins = []
    for minute in range(minutes):
        wander = 0.995 * wander + 0.03 * draws.normal(len(users))
        busy = 1 + 0.6 * math.sin(2 * math.pi * minute / _MINUTES)
        sent, billed = 0.0, np.zeros(len(UNITS))
        for user, drift in zip(users, wander, strict=True):
            answers = _poisson(user.rate * busy * math.exp(drift), draws)
            spent, of_user = _answers(user, answers, envelope, busy, draws)
            sent, billed = sent + spent, billed + of_user
        lost = _poisson(sent / _MSS * _LOST, draws)
        sent = (sent + lost * _MSS) * max(0.0, 1 + noise * float(draws.normal(1)[0]))
        bins.append(Bin(60.0 * minute, sent, tuple(billed.tolist())))
    return bins


def _answers(
    user: _User, count: int, envelope: float, busy: float, draws: _Draws
) -> tuple[float, F64Array]:
    """Bytes that some answers are on the wire, and what they are billed."""
    if not count:
        return 0.0, np.zeros(len(UNITS))
    tokens_A = np.ceil(user.tokens * -np.log(draws.uniform(count)))
    streamed_A = draws.uniform(count) < user.streamed
    text_A = tokens_A * user.size * (1 + 0.1 * draws.normal(count))
    # A busy engine hands out more tokens at a tick, so an event carries more of them.
    events_A = np.ceil(tokens_A / (1 + 0.3 * busy))
    streams_A = _HEAD + text_A + events_A * (envelope + _TLS + _HEADERS)
    wholes_A = _HEAD + 300 + text_A
    wholes_A += np.ceil(wholes_A / _MSS) * (_HEADERS + _TLS)
    sent = float(np.where(streamed_A, streams_A, wholes_A).sum())
    events = float(np.where(streamed_A, events_A, 1.0).sum())
    return sent, np.array([float(count), float(tokens_A.sum()), events])


def _users() -> tuple[_User, ...]:
    texts = [row.prompt for row in read(beside_or_packaged())][:240]
    groups = [texts[first::12] for first in range(12)]
    users = []
    for number, group in enumerate(groups):
        pieces = [piece for text in group for piece in _PIECE.findall(text)]
        size = len("".join(pieces).encode()) / len(pieces)
        users.append(
            _User(
                rate=4.0 * 1.35**number / 4,
                tokens=60.0 + 45 * (number * 5 % 12),
                streamed=(0.95, 0.6, 0.1)[number % 3],
                size=size,
            )
        )
    return tuple(users)


def _envelope() -> float:
    """Bytes of an event around its text."""
    stamp = Stamp(id="chatcmpl-" + "0" * 32, created=1_700_000_000, model="m", fingerprint="f")
    return float(len(ChatShape(stamp).delta(0, "")))


def _poisson(mean: float, draws: _Draws) -> int:
    """About: a normal of that mean and variance, not below 0."""
    return max(0, round(mean + math.sqrt(mean) * float(draws.normal(1)[0])))


@dataclass(frozen=True, slots=True)
class Delays:
    """Bins from the first added byte to the alarm, of every trial; and what honest bins raised."""

    cusum: tuple[int, ...]
    edetector: tuple[int, ...]
    ratio: tuple[int, ...]
    false_alarms: int
    honest_bins: int
    noise: float
    """Of a bin's residual, as a share of its bytes."""
    correlation: float


def measure(
    trials: int, noise: float, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Delays:
    """Fit on a day, tune on the next, watch the others; each trial adds from another bin on."""
    bins = traffic("tidegate.bench.flow", _CALIBRATION + _TUNING + 3 * _MINUTES, noise)
    predictor = fit(bins[:_CALIBRATION])
    known = bins[_CALIBRATION : _CALIBRATION + _TUNING]
    tuning = tuned(predictor, known, share=ADDED, false_alarm_every=FALSE_ALARM_EVERY)
    rest = bins[_CALIBRATION + _TUNING :]
    ratio = _ratio(bins[:_CALIBRATION])
    ratio_tuning = tuned(ratio, known, share=ADDED, false_alarm_every=FALSE_ALARM_EVERY)
    false_alarms = len(_alarms(Watch(predictor, tuning), rest))
    cusum, edetector, by_ratio = [], [], []
    for trial in range(trials):
        progress("flow", trial, trials)
        begins = (trial * 997) % (len(rest) - _LONGEST)
        stolen = [
            Bin(one.start, one.sent * (1 + ADDED), one.billed)
            for one in rest[begins : begins + _LONGEST]
        ]
        cusum.append(_until(predictor, tuning, stolen, "cusum"))
        edetector.append(_until(predictor, tuning, stolen, "e-detector"))
        by_ratio.append(_until(ratio, ratio_tuning, stolen, "cusum"))
    progress("flow", trials, trials)
    spreads = [predictor.spread(one) / predictor.predicted(one) for one in known]
    return Delays(
        tuple(cusum),
        tuple(edetector),
        tuple(by_ratio),
        false_alarms,
        len(rest),
        statistics.median(spreads),
        predictor.correlation,
    )


def figures(
    trials: int = 40, progress: Callable[[str, int, int], None] = lambda *_: None
) -> dict[str, Figure]:
    """How soon +2% is found at noise of 2% a bin and without any, and what theory says of it."""
    seen, still = measure(trials, NOISE, progress), measure(trials, 0.0)
    how = (
        f"mean; +{ADDED:.0%} from a bin on; drawn users who drift, the API's own events, noise "
        f"of {NOISE:.0%}, bins of a minute, one false alarm in {FALSE_ALARM_EVERY:,.0f} bins"
    )
    threshold = Tuning(shift=ADDED / NOISE, false_alarm_every=FALSE_ALARM_EVERY).threshold
    return {
        "flow.bins_to_alarm": at_most(
            statistics.fmean(seen.cusum), _ALLOWED_BINS, unit="bins", n=trials, how=f"{how}; CUSUM"
        ),
        "flow.bins_to_alarm_edetector": report(
            statistics.fmean(seen.edetector), unit="bins", n=trials, how=f"{how}; e-detector"
        ),
        "flow.bins_to_alarm_ratio": report(
            statistics.fmean(seen.ratio),
            unit="bins",
            n=trials,
            how=f"{how}; CUSUM on bytes over tokens; not found counts as {_LONGEST}",
        ),
        "flow.bins_to_alarm_noiseless": report(
            statistics.fmean(still.cusum),
            unit="bins",
            n=trials,
            how=f"CUSUM where nothing but the API's answers leaves: {still.noise:.2%} of a bin",
        ),
        "flow.bins_to_alarm_theory": report(
            mean_run(ADDED / NOISE / 2, threshold), unit="bins", n=1, how="Siegmund's formula"
        ),
        "flow.false_alarms": report(
            seen.false_alarms,
            unit="alarms",
            n=seen.honest_bins,
            how="of both detectors, in honest bins that nothing was fitted on",
        ),
    }


def _ratio(bins: Sequence[Bin]) -> Predictor:
    """A predictor that looks at the tokens alone: a ratio of bytes to them that ought to stand."""
    per_token = sum(one.sent for one in bins) / sum(one.billed[1] for one in bins)
    shares = [one.sent / (per_token * one.billed[1]) - 1 for one in bins if one.billed[1]]
    return Predictor(
        idle=0.0,
        rates=(0.0, per_token, 0.0),
        floor=0.0,
        per_byte=0.0,
        share=statistics.fmean(one**2 for one in shares),
        correlation=0.0,
        bins=len(bins),
    )


def _alarms(watch: Watch, bins: Sequence[Bin]) -> list[str]:
    raised: list[str] = []
    for one in bins:
        watch, alarms = observe(watch, one)
        raised += [alarm.detector for alarm in alarms]
    return raised


def _until(predictor: Predictor, tuning: Tuning, bins: Sequence[Bin], detector: str) -> int:
    watch = Watch(predictor, tuning)
    for count, one in enumerate(bins, start=1):
        watch, alarms = observe(watch, one)
        if any(alarm.detector == detector for alarm in alarms):
            return count
    return _LONGEST
