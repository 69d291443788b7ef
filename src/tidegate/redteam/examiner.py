"""The verifier in the lab: calibrated on honest answers, then reads a record and judges it.

Reader, selection, scores, calibration, bounds and sequential tests are the product's own. What is
added here is that every token's judgement is kept, so that the token of the alarm is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ConfigError
from tidegate.models.port import F32Array
from tidegate.redteam.outer import ORIGIN, Outer, named
from tidegate.sampling.params import SamplingParams
from tidegate.verify.bounds import Ending, LeakBound, Tolerance, point_bound, surprisal
from tidegate.verify.calibrate import (
    HonestAnswer,
    NoiseProfile,
    Point,
    Provenance,
    Stack,
    measure,
    operating_point,
)
from tidegate.verify.record_findings import Finding
from tidegate.verify.record_reader import Expected, Reader
from tidegate.verify.record_response import Response
from tidegate.verify.replay_answer import Task
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_task import task_of
from tidegate.verify.scores import DANGEROUS, TokenScores, score_tokens, tiers
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws, F64Array
from tidegate.verify.selection import Policy, epoch_key, selected, subject_of
from tidegate.verify.sequential import Counts, Null
from tidegate.verify.sequential_monitor import Batch, Monitor, watch

FALSE_ALARMS = 1e-6
"""The chance that an honest fleet ever raises an alarm."""

RANKS = (16, 64, 256)
_LEAST_MARGIN = 2.0**-20
"""One unit of the noise: between machines without any difference only a tie is within it."""


_EXACT_SHARE = 1e-4
"""Between exact machines, what the surprisal law leaves for other tokens: when the first of them
comes says something, too. What nothing was found in says nothing, and is not charged."""


class Forced(Protocol):
    """What the examiner needs of `models.replay_port.Replay`."""

    def logits(
        self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> Iterator[F32Array]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What calibration is asked for: margins to try, in nats, and shares of honest tokens that may
    be flagged, and be dangerous, at most."""

    margins: tuple[float, ...]
    flagged: float
    dangerous: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """By what answers are judged.

    `profile` and `point` are what calibration found; both None for exact machines, for which one
    other token is proof, and nothing may be chosen.
    """

    vocab_size: int
    profile: NoiseProfile | None = None
    point: Point | None = None

    @property
    def exact(self) -> bool:
        """Whether only equality passes."""
        return self.point is None

    @property
    def margin(self) -> float:
        """How far from the best a token may lie, in nats."""
        return self.point.margin if self.point else _LEAST_MARGIN

    @property
    def rank(self) -> int:
        """Raw-logit ranks below it are suspicious, others dangerous."""
        return self.point.rank if self.point else 1

    @property
    def sigma(self) -> float:
        """Noise of one logit in nats."""
        measured = self.profile.sigma if self.profile else None
        return measured or self.margin / 3

    @property
    def null(self) -> Null:
        """What honest tokens do at most."""
        if self.point is None:
            raise ConfigError("between exact machines no token may be flagged at all")
        return Null.of(self.point)

    def leak(self) -> LeakBound:
        """The counting bound, calibrated on honest answers; ends are re-executed."""
        ending = Ending(tokens_a_message=1.0, max_tokens=1, verified=True)
        if self.point is None:
            return LeakBound(
                value_bits=0.0,
                flagged_bits=0.0,
                position_bits=0.0,
                length_bits=0.0,
                vocab_size=self.vocab_size,
            )
        return point_bound(self.point, self.vocab_size, ending)

    def tolerance(self) -> Tolerance:
        """What the surprisal bound reckons with: honest tokens' rates, never 0."""
        null = self.null
        return Tolerance(
            suspicious=null.suspicious,
            dangerous=null.dangerous,
            rank=self.rank,
            vocab_size=self.vocab_size,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One answer. tier_T: int8, 0 safe, 1 suspicious, 2 dangerous (for exact machines: another
    token). value_T: log2 of the admissible set. cost_T: surprisal in bits, log2 V where nobody
    looked. `verified`: whether it was selected."""

    index: int
    failed: bool
    verified: bool
    tier_T: NDArray[np.int8]
    value_T: F64Array
    cost_T: F64Array

    @property
    def tokens(self) -> int:
        """How many were served."""
        return self.tier_T.size


@dataclass(frozen=True, slots=True)
class Reading:
    """A record, judged; `findings` are the reader's and the replay's own."""

    answers: tuple[Judged, ...]
    findings: tuple[str, ...]


def calibrate(answers: Sequence[HonestAnswer], claim: Claim, vocab_size: int, law: str) -> Standard:
    """The standard for a stack from honest answers, scored at `claim.margins`.

    Raises SampleTooSmallError or ConfigError where they cannot carry the claim.
    """
    stack = Stack(model=law, engine="lab", dtype=law, batch="", hardware="", numerics="")
    profile = measure(
        answers,
        margins=claim.margins,
        ranks=RANKS,
        served=stack,
        verifier=stack,
        sampling="the campaign's",
        vocab_size=vocab_size,
        provenance=Provenance(
            command="tidegate redteam run", version="", prompts="lab", made=0.0, split_seed="lab"
        ),
        seed=b"lab",
    )
    # Half of what is claimed, on the half that the choice is made by: else the point that leaks
    # least is the one that just about passed there, and the other half refuses it.
    clear = [
        point
        for point in profile.points
        if point.fitted_flagged <= claim.flagged / 2
        and point.fitted_dangerous <= claim.dangerous / 2
    ]
    point = operating_point(
        msgspec.structs.replace(profile, points=tuple(clear)),
        flagged=claim.flagged,
        dangerous=claim.dangerous,
    )
    return Standard(vocab_size=vocab_size, profile=profile, point=point)


def tasks(outer: Outer, vocab_size: int) -> tuple[list[tuple[Response, Task]], list[str]]:
    """All answers of a record as the verifier reads them, and what is wrong with it."""
    reader = Reader(outer.store, outer.signer.verifier, expected=Expected())
    read: list[tuple[Response, Task]] = []
    wrong: list[str] = []
    for item in reader.read():
        if isinstance(item, Finding):
            wrong.append(item.kind.value)
            continue
        task = task_of(item, vocab_size=vocab_size, seeds=outer.seeds)
        if isinstance(task, Found):
            wrong.append(task.kind)
        else:
            read.append((item, task))
    wrong += [finding.kind.value for finding in reader.finish()]
    return read, wrong


def honest_answers(
    outer: Outer, replay: Forced, margins: tuple[float, ...], vocab_size: int
) -> list[HonestAnswer]:
    """Score a record of honest answers for calibration."""
    scored = []
    read, _ = tasks(outer, vocab_size)
    for _, task in read:
        scores = _scored(task, replay, Scoring(margins=margins))
        scored.append(HonestAnswer(str(task.response), np.array(task.tokens), scores))
    return scored


def examine(outer: Outer, replay: Forced, standard: Standard, rate: Fraction) -> Reading:
    """Read a record, select a share `rate` of its tokens, and judge the selected answers."""
    read, wrong = tasks(outer, standard.vocab_size)
    key = epoch_key(named("examiner"), 0)
    policy = Policy(rate)
    by_number = {job.number: job.index for job in outer.jobs}
    judged = []
    for response, task in read:
        subject = subject_of(response, ORIGIN, 0, response.last + 1)
        chosen = rate == 1 or (subject is not None and selected(key, subject, policy))
        index, failed = by_number[response.number], response.end.reason == "failed"
        if chosen and task.tokens:
            judged.append(_judged(task, replay, standard, index, failed))
        else:
            size = len(task.tokens)
            whole = math.log2(standard.vocab_size)
            judged.append(
                Judged(
                    index,
                    failed,
                    chosen,
                    np.zeros(size, np.int8),
                    np.zeros(size),
                    np.full(size, whole),
                )
            )
    return Reading(tuple(judged), tuple(wrong))


def _scored(task: Task, replay: Forced, scoring: Scoring) -> TokenScores:
    (logits_TV,) = replay.logits([(task.prompt, task.tokens)])
    params = SamplingParams.from_canonical(task.params)
    return score_tokens(
        logits_TV,
        task.tokens,
        params,
        Draws.along(task.seed, len(task.tokens)) if params.temperature else None,
        scoring=scoring,
        prompt_ids=task.prompt,
    )


def _judged(task: Task, replay: Forced, standard: Standard, index: int, failed: bool) -> Judged:
    scoring = Scoring(margins=(standard.margin,), sigma=standard.sigma)
    scores = _scored(task, replay, scoring)
    if standard.exact:
        other_T = scores.expected_T != np.array(task.tokens)
        tier_T = np.where(other_T, DANGEROUS, 0).astype(np.int8)
        other = math.log2(standard.vocab_size / _EXACT_SHARE)
        cost_T = np.where(other_T, other, -math.log2(1 - _EXACT_SHARE))
        return Judged(index, failed, True, tier_T, np.zeros(other_T.size), cost_T)
    return Judged(
        index,
        failed,
        True,
        tiers(scores, standard.margin, standard.rank),
        np.log2(np.maximum(scores.admissible_MT[0], 1)),
        surprisal(scores, standard.tolerance()),
    )


@dataclass(frozen=True, slots=True)
class Stop:
    """Where an alarm stopped the traffic: `answers` were judged whole, and `into` tokens of the
    next. `verified`: verified tokens up to there. `alarmed` False: nothing stopped it."""

    answers: int
    into: int
    verified: int
    alarmed: bool


def stop_of(answers: Sequence[Judged], standard: Standard) -> Stop:
    """The first token after which the fleet's, the replica's or the principal's test alarms."""
    monitor = Monitor(false_alarms=FALSE_ALARMS)
    verified = 0
    for place, answer in enumerate(answers):
        if not answer.verified:
            continue
        if standard.exact:
            other_N = np.flatnonzero(answer.tier_T)
            if other_N.size:
                into = int(other_N[0]) + 1
                return Stop(place, into, verified + into, alarmed=True)
        else:
            after, alarms = watch(monitor, _batch(standard, answer.tier_T))
            if alarms:
                into = _into(monitor, standard, answer.tier_T)
                return Stop(place, into, verified + into, alarmed=True)
            monitor = after
        verified += answer.tokens
    return Stop(len(answers), 0, verified, alarmed=False)


def _into(monitor: Monitor, standard: Standard, tier_T: NDArray[np.int8]) -> int:
    """After how many tokens of an answer that alarms it would have, token by token."""
    for size in range(1, tier_T.size + 1):
        if watch(monitor, _batch(standard, tier_T[:size]))[1]:
            return size
    return tier_T.size


def _batch(standard: Standard, tier_T: NDArray[np.int8]) -> Batch:
    return Batch(replica="inner", principal="client", null=standard.null, counts=Counts.of(tier_T))
