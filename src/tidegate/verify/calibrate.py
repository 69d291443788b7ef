"""What honest re-execution looks like on one pair of stacks, measured once and kept as a profile.

A margin means nothing by itself: how far two machines disagree depends on engine, dtype, batch and
hardware of both. `measure` takes honest answers, splits them by whole sequences, fits on one half
and counts on the other. `operating_point` then picks a margin, and refuses what the sample cannot
carry. Nothing here knows how the answers were made; honest answers are the assumption.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ConfigError
from tidegate.verify.calibrate_intervals import (
    SampleTooSmallError,
    bootstrap,
    claim_at_most,
    clopper_pearson,
    conformal_margin,
    design_effect,
    upper_bound,
)
from tidegate.verify.scores import TokenScores
from tidegate.verify.scores_rows import F64Array, I64Array

PROFILE_VERSION = 1
QUANTILES = (0.5, 0.9, 0.99, 0.995, 0.999, 0.9999)
BURST = 16
"""Tokens after a flagged one in which another flag counts as part of a burst."""


class Stack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an honest machine's floats depend on."""

    model: str
    """The model's fingerprint."""
    engine: str
    dtype: str
    batch: str
    """Streams decoded together, or how a prefill was cut."""
    hardware: str
    numerics: str
    """Library versions, threads, kernels: as `ModelInfo.numerics` says them."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a profile came from, so that somebody else can make it again."""

    command: str
    version: str
    prompts: str
    """What the prompts were, with a hash."""
    made: float
    """Seconds since the Unix epoch, UTC."""
    split_seed: str


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of tokens that was counted in whole sequences.

    `low`, `high`: the wider of Clopper-Pearson and the sequence bootstrap, 95% two-sided. `upper`:
    one-sided 95%. Binomial bounds count each token as 1 / `design_effect` independent ones.
    """

    events: int
    tokens: int
    sequences: int
    design_effect: float
    low: float
    high: float
    upper: float

    @property
    def share(self) -> float:
        """The share itself."""
        return self.events / self.tokens

    def effective(self) -> tuple[int, int]:
        """Events, rounded up, and tokens, rounded down, as if tokens were independent."""
        tokens = max(1, math.floor(self.tokens / self.design_effect))
        return min(tokens, math.ceil(self.events / self.design_effect)), tokens


class Mean(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bits a token on average, with a 95% interval by sequence bootstrap."""

    value: float
    low: float
    high: float


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one margin and one rank do to honest tokens, counted on the held-out half.

    `fitted_flagged`, `fitted_dangerous`, `fitted_bits`: shares and leak on the calibration half,
    which a point is picked by. `flagged`: beyond the margin, hence suspicious or dangerous.
    `value_bits`: log2 of the admissible set; `plain_bits`: the same when only what exactly survives
    the filters may be admitted.
    """

    margin: float
    rank: int
    fitted_flagged: float
    fitted_dangerous: float
    fitted_bits: float
    flagged: Rate
    suspicious: Rate
    dangerous: Rate
    value_bits: Mean
    plain_bits: Mean


class NoiseProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Honest noise between two stacks. Margins are in nats of logit."""

    version: int
    served: Stack
    verifier: Stack
    sampling: str
    vocab_size: int
    calibration_sequences: int
    calibration_tokens: int
    sequences: int
    """Held out: every rate is counted on these."""
    tokens: int
    mismatch: Rate
    filtered: Rate
    """Tokens that the verifier's filters remove: their plain margin is infinite."""
    burst: Rate | None
    """Mismatches among the tokens that follow a mismatch closely; None where none follows."""
    sigma: float | None
    """Noise of one logit, in nats, if it is normal; None without a mismatch."""
    quantiles: tuple[tuple[float, float | None], ...]
    """(share of honest tokens, boundary margin they stay within), calibration half; None where it
    lies beyond every margin that was scored."""
    points: tuple[Point, ...]
    provenance: Provenance

    def encode(self) -> bytes:
        """JSON without NaN or infinity."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(body: bytes) -> NoiseProfile:
        """Read a profile. Raises ConfigError for anything else."""
        try:
            profile = msgspec.json.decode(body, type=NoiseProfile)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"not a noise profile: {error}; measure one again") from error
        if profile.version != PROFILE_VERSION:
            raise ConfigError("a noise profile of another version", version=profile.version)
        return profile


@dataclass(frozen=True, slots=True, eq=False)
class HonestAnswer:
    """One honest answer as re-execution scored it. `served_T`: the tokens that were served."""

    sequence: str
    served_T: NDArray[np.integer]
    scores: TokenScores


def held_out(sequence: str, seed: bytes) -> bool:
    """Whether a sequence is counted rather than fitted; half of them are, by hash of the id."""
    return hashlib.blake2b(sequence.encode(), key=seed[:64], digest_size=1).digest()[0] % 2 == 1


def measure(
    answers: Sequence[HonestAnswer],
    *,
    margins: tuple[float, ...],
    ranks: tuple[int, ...],
    served: Stack,
    verifier: Stack,
    sampling: str,
    vocab_size: int,
    provenance: Provenance,
    seed: bytes,
) -> NoiseProfile:
    """Measure a profile. `margins` are those the answers were scored with (`Scoring.margins`).

    Raises ConfigError for a sequence given twice, and SampleTooSmallError where one half has fewer
    than two sequences or no token.
    """
    if len({answer.sequence for answer in answers}) < len(answers):
        raise ConfigError("a sequence is there twice, so both halves could share it")
    halves: tuple[list[HonestAnswer], list[HonestAnswer]] = ([], [])
    for answer in answers:
        halves[held_out(answer.sequence, seed)].append(answer)
    if any(len(half) < 2 or not sum(len(a.served_T) for a in half) for half in halves):
        raise SampleTooSmallError(
            "both halves need at least two sequences; measure more",
            have=min(map(len, halves)),
            need=2,
        )
    fitted, counted = _Tokens(halves[0]), _Tokens(halves[1])
    points = tuple(
        _point(fitted, counted, place, margin, rank, vocab_size, seed)
        for place, margin in enumerate(margins)
        for rank in ranks
    )
    finite_N = fitted.boundary_N[(fitted.mismatch_N) & np.isfinite(fitted.boundary_N)]
    burst_N = counted.follows()
    return NoiseProfile(
        version=PROFILE_VERSION,
        served=served,
        verifier=verifier,
        sampling=sampling,
        vocab_size=vocab_size,
        calibration_sequences=len(halves[0]),
        calibration_tokens=fitted.boundary_N.size,
        sequences=len(halves[1]),
        tokens=counted.boundary_N.size,
        mismatch=counted.rate(counted.mismatch_N, seed),
        filtered=counted.rate(np.isinf(counted.margin_N), seed),
        burst=counted.rate(counted.mismatch_N, seed, among_N=burst_N) if burst_N.any() else None,
        sigma=_sigma(finite_N) if finite_N.size else None,
        quantiles=tuple((share, _quantile(fitted.boundary_N, share)) for share in QUANTILES),
        points=points,
        provenance=provenance,
    )


def operating_point(
    profile: NoiseProfile, *, flagged: float, dangerous: float, confidence: float = 0.95
) -> Point:
    """The point of least leak whose false alarms stay within both shares.

    `flagged` bounds suspicious and dangerous honest tokens together, `dangerous` the latter alone.
    The point is picked on the calibration half; the held-out half then has to carry both claims.
    Raises SampleTooSmallError, with the tokens needed, where it does not, and ConfigError where no
    measured point keeps within the shares at all.
    """
    within = [
        point
        for point in profile.points
        if point.fitted_flagged <= flagged and point.fitted_dangerous <= dangerous
    ]
    if not within:
        raise ConfigError(
            "no measured margin keeps honest tokens within these shares; measure wider margins, or "
            "allow more",
            flagged=flagged,
            dangerous=dangerous,
        )
    point = min(within, key=lambda point: point.fitted_bits)
    claim_at_most(flagged, *point.flagged.effective(), confidence)
    claim_at_most(dangerous, *point.dangerous.effective(), confidence)
    return point


def alarm_point(profile: NoiseProfile, rank: int) -> Point:
    """The point that alarms bet at: the narrowest margin that no token of the calibration half goes
    beyond, else the widest, since choices that are not the seed's mostly lie far beyond it.

    Bits that hide within it raise no alarm; `operating_point` counts them. `rank`: as there.
    """
    quiet = [p for p in profile.points if p.rank == rank and p.fitted_flagged == 0]
    return min(
        quiet,
        key=lambda p: p.margin,
        default=max((p for p in profile.points if p.rank == rank), key=lambda p: p.margin),
    )


class _Tokens:
    """All tokens of one half, sequence after sequence."""

    def __init__(self, answers: Sequence[HonestAnswer]) -> None:
        scores = [answer.scores for answer in answers]
        self.size_S: I64Array = np.array([answer.served_T.size for answer in answers], np.int64)
        self.sequence_N = np.repeat(np.arange(len(answers)), self.size_S)
        self.margin_N = np.concatenate([score.margin_T for score in scores])
        self.boundary_N = np.concatenate([score.boundary_margin_T for score in scores])
        self.rank_N = np.concatenate([score.logit_rank_T for score in scores])
        self.plain_MN = np.concatenate([score.plain_MT for score in scores], axis=1)
        self.admissible_MN = np.concatenate([score.admissible_MT for score in scores], axis=1)
        self.mismatch_N = np.concatenate(
            [answer.served_T != answer.scores.expected_T for answer in answers]
        )

    def rate(
        self,
        event_N: NDArray[np.bool_],
        seed: bytes,
        *,
        among_N: NDArray[np.bool_] | None = None,
    ) -> Rate:
        among_N = np.ones(event_N.size, np.bool_) if among_N is None else among_N
        trials_S = self._by_sequence(among_N)
        events_S = self._by_sequence(event_N & among_N)
        events, tokens = int(events_S.sum()), int(trials_S.sum())
        effect = design_effect(events_S, trials_S)
        rate = Rate(events, tokens, int((trials_S > 0).sum()), effect, 0.0, 1.0, 1.0)
        exact = clopper_pearson(*rate.effective())
        resampled = bootstrap(events_S, trials_S, seed=seed)
        low, high = min(exact.low, resampled.low), max(exact.high, resampled.high)
        upper = upper_bound(*rate.effective())
        return Rate(events, tokens, rate.sequences, effect, low, high, upper)

    def mean(self, bits_N: F64Array, seed: bytes) -> Mean:
        sums_S = np.bincount(self.sequence_N, bits_N, minlength=self.size_S.size)
        resampled = bootstrap(sums_S, self.size_S, seed=seed)
        return Mean(float(bits_N.mean()), resampled.low, resampled.high)

    def follows(self) -> NDArray[np.bool_]:
        """Which tokens come at most BURST places after a mismatch of their own sequence."""
        at_N = np.arange(self.mismatch_N.size)
        last_N = np.maximum.accumulate(np.where(self.mismatch_N, at_N, -1))
        before_N = np.concatenate([[-1], last_N[:-1]])
        first_N = (np.cumsum(self.size_S) - self.size_S)[self.sequence_N]
        followed: NDArray[np.bool_] = (before_N >= first_N) & (at_N - before_N <= BURST)
        return followed

    def _by_sequence(self, chosen_N: NDArray[np.bool_]) -> I64Array:
        return np.bincount(self.sequence_N[chosen_N], minlength=self.size_S.size)


def _point(
    fitted: _Tokens,
    counted: _Tokens,
    place: int,
    margin: float,
    rank: int,
    vocab_size: int,
    seed: bytes,
) -> Point:
    old_flagged_N, flagged_N = fitted.boundary_N > margin, counted.boundary_N > margin
    old_low_N, low_N = fitted.rank_N < rank, counted.rank_N < rank
    suspicious, dangerous = (old_flagged_N & old_low_N).mean(), (old_flagged_N & ~old_low_N).mean()
    value = np.log2(np.maximum(fitted.admissible_MN[place], 1)).mean()
    return Point(
        margin,
        rank,
        fitted_flagged=float(suspicious + dangerous),
        fitted_dangerous=float(dangerous),
        fitted_bits=float(
            value + suspicious * math.log2(max(rank, 1)) + dangerous * math.log2(vocab_size)
        ),
        flagged=counted.rate(flagged_N, seed),
        suspicious=counted.rate(flagged_N & low_N, seed),
        dangerous=counted.rate(flagged_N & ~low_N, seed),
        value_bits=counted.mean(np.log2(np.maximum(counted.admissible_MN[place], 1)), seed),
        plain_bits=counted.mean(np.log2(np.maximum(counted.plain_MN[place], 1)), seed),
    )


def _sigma(mismatch_margins_N: F64Array) -> float | None:
    """Noise of one logit. Near a tie gaps are spread evenly, so with normal noise the mean margin
    of a mismatch is √π/2 times that of one logit; a moment estimate."""
    sigma = float(mismatch_margins_N.mean()) / (math.sqrt(math.pi) / 2)
    return sigma if sigma > 0 else None


def _quantile(margin_N: F64Array, share: float) -> float | None:
    try:
        margin = conformal_margin(margin_N, 1 - share)
    except SampleTooSmallError:
        return None
    return margin if math.isfinite(margin) else None
