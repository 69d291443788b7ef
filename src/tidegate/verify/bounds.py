"""How many bits an attacker could still send past re-execution, and how long the weights then take.

Everything an attacker may choose is counted and added: which token of the admissible set, which
tokens deviate and to what, and where an answer ends. The counting bound needs a margin, and rates
of flagged tokens that honest noise makes him hard to tell from. The surprisal bound needs neither
threshold: it charges each served token -log2 of its probability under one fixed law, and by Kraft's
inequality at most 2^B answers cost B bits or less. Order, chunking and timing are not counted here;
the outer half fixes them, or the ledger charges them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tidegate.errors import ConfigError
from tidegate.verify.bounds_laws import position_bits
from tidegate.verify.calibrate import Point
from tidegate.verify.scores import TokenScores
from tidegate.verify.scores_rows import F64Array

COMPRESSION = 16.0
"""How far an attacker is assumed to compress weights (range 1 to 100, arXiv 2601.01296)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Shares of flagged tokens at which no alarm need ever come, and what each can say.

    `rank` bounds a suspicious token's raw-logit rank. Raises ConfigError for shares outside 0 to 1
    or that sum to more, a rank below 1 or fewer than 2 tokens in the vocabulary.
    """

    suspicious: float
    dangerous: float
    rank: int
    vocab_size: int

    def __post_init__(self) -> None:
        shares = (self.suspicious, self.dangerous)
        if any(not 0 <= share <= 1 for share in shares) or sum(shares) > 1:
            raise ConfigError("tolerated shares lie between 0 and 1, and so does their sum")
        if self.rank < 1 or self.vocab_size < 2:
            raise ConfigError("a rank is at least 1 and a vocabulary holds at least 2 tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What an answer's end can say. `verified`: the end token and finish reason were re-executed,
    so the end is a token like others; else its length is the attacker's choice."""

    tokens_a_message: float
    max_tokens: int
    verified: bool

    @property
    def bits_a_message(self) -> float:
        """log2 of the ends to choose from, 0 where the end is verified: an answer of any length
        ends as it should or, at no tokens too, as failed."""
        return 0.0 if self.verified else math.log2(2 * self.max_tokens + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakBound:
    """Bits a token that may hide, by where they hide; add them all.

    `value_bits`: choice within admissible sets. `flagged_bits`: values of tolerated deviations.
    `position_bits`: which tokens deviate. `length_bits`: where answers end. `choice_bits`: which of
    several drafts won.
    """

    value_bits: float
    flagged_bits: float
    position_bits: float
    length_bits: float
    vocab_size: int
    choice_bits: float = 0.0

    @property
    def bits_a_token(self) -> float:
        """The sum, where what is said within tokens is at most all that tokens can say."""
        within = self.value_bits + self.flagged_bits + self.position_bits
        return min(within, math.log2(self.vocab_size)) + self.length_bits + self.choice_bits

    @property
    def share(self) -> float:
        """Of log2 V, what a token would carry unchecked."""
        return self.bits_a_token / math.log2(self.vocab_size)

    @property
    def slowdown(self) -> float:
        """How many times longer the weights take than unchecked; inf where nothing hides."""
        return math.inf if self.share == 0 else 1 / self.share


def counting_bound(value_bits: float, tolerance: Tolerance, ending: Ending) -> LeakBound:
    """The counting bound from mean log2 |A| of verified tokens, in bits a token."""
    return LeakBound(
        value_bits=value_bits,
        flagged_bits=tolerance.suspicious * math.log2(tolerance.rank)
        + tolerance.dangerous * math.log2(tolerance.vocab_size),
        position_bits=position_bits(tolerance.suspicious, tolerance.dangerous),
        length_bits=ending.bits_a_message / max(ending.tokens_a_message, 1.0),
        vocab_size=tolerance.vocab_size,
    )


def point_bound(point: Point, vocab_size: int, ending: Ending) -> LeakBound:
    """The counting bound of a calibrated point, every measured quantity at its upper end.

    Each end holds at 95% by itself. An attacker may deviate as often as honest machines might.
    """
    dangerous = point.dangerous.upper
    tolerance = Tolerance(
        suspicious=min(point.suspicious.upper, 1 - dangerous),
        dangerous=dangerous,
        rank=point.rank,
        vocab_size=vocab_size,
    )
    return counting_bound(point.value_bits.high, tolerance, ending)


def surprisal(scores: TokenScores, tolerance: Tolerance) -> F64Array:
    """Bits each served token costs under one law that was fixed before it: float64 [T].

    The law gives 1 - suspicious - dangerous to the admissible tokens by their shares, `suspicious`
    evenly to the `rank` largest raw logits, and `dangerous` evenly to all. Its probabilities sum to
    at most 1, so among all answers at most 2^B have a sum of B or less: a verifier that releases
    only those lets B bits pass, whatever the attacker does and however he spreads it. inf where a
    token has no probability (a share of 0 and `dangerous` 0).
    """
    rest = 1.0 - tolerance.suspicious - tolerance.dangerous
    low_T = scores.logit_rank_T < tolerance.rank
    law_T = rest * scores.share_T + tolerance.dangerous / tolerance.vocab_size
    law_T = law_T + low_T * tolerance.suspicious / tolerance.rank
    with np.errstate(divide="ignore"):
        bits_T: F64Array = -np.log2(np.minimum(law_T, 1.0))
    return bits_T


def most_surprisal(tolerance: Tolerance) -> float:
    """What one token costs at most under that law; inf where `dangerous` is 0."""
    if tolerance.dangerous == 0:
        return math.inf
    return math.log2(tolerance.vocab_size / tolerance.dangerous)


def days_to_exfiltrate(
    weight_bits: float, bits_a_day: float, compression: float = COMPRESSION
) -> float:
    """Days until the compressed weights are out; inf at no bits a day. Raises ConfigError unless
    all are positive (bits a day may be 0)."""
    if weight_bits <= 0 or bits_a_day < 0 or compression <= 0:
        raise ConfigError("weights, compression and bits a day are positive numbers")
    return math.inf if bits_a_day == 0 else weight_bits / compression / bits_a_day


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one principal, one replica or the fleet serves a day. `cap_bits_a_day`: what the ledger
    lets leave, None without a cap. `streams`: how many tests of its own scope it is split over."""

    scope: str
    tokens_a_day: float
    streams: int = 1
    cap_bits_a_day: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeBound:
    """What can leave in one scope. `before_alarm_bits`: once, if the alarm does not matter."""

    scope: str
    bits_a_day: float
    before_alarm_bits: float
    days: float


def scope_bounds(
    leak: LeakBound,
    traffic: Iterable[Traffic],
    *,
    weight_bits: float,
    compression: float = COMPRESSION,
    tokens_to_alarm: float,
    sampled: float,
) -> tuple[ScopeBound, ...]:
    """Bounds a scope: what hides for ever below the alarm, and what a burst sends before it.

    `tokens_to_alarm`: verified tokens until one test alarms when every token deviates; `sampled`:
    the share of tokens that is verified. A burst is charged log2 V for each token served meanwhile,
    in each stream; deviations on tokens nobody verified count in it. Raises ConfigError for a
    sampled share outside (0, 1].
    """
    if not 0 < sampled <= 1:
        raise ConfigError("the verified share of tokens lies above 0 and at most at 1")
    rows = []
    for each in traffic:
        bits = leak.bits_a_token * each.tokens_a_day
        if each.cap_bits_a_day is not None:
            bits = min(bits, each.cap_bits_a_day)
        burst = each.streams * tokens_to_alarm / sampled * math.log2(leak.vocab_size)
        needed = max(weight_bits / compression - burst, 0.0)
        days = 0.0 if needed == 0 else days_to_exfiltrate(needed, bits, 1.0)
        rows.append(
            ScopeBound(scope=each.scope, bits_a_day=bits, before_alarm_bits=burst, days=days)
        )
    return tuple(rows)
