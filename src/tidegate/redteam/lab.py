"""Serving in lock-step with somebody else choosing the tokens, and listening to what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tidegate.models.port import F32Array, Model
from tidegate.redteam.outer import Job, Outer
from tidegate.sampling.filters import process_logits
from tidegate.sampling.gumbel import Noise, greedy
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores_rows import Draws, I64Array, contenders, scale

ABORT = -1
"""In place of a token: the inner half says that the stream failed."""


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One decode step as sender and receiver see it: the jobs that run, how many tokens each has,
    and the model's raw logits_NV. Seeds are in the jobs: by now they are used."""

    jobs: tuple[Job, ...]
    position: int
    logits_NV: F32Array

    def scores(self, row: int, params: SamplingParams | None = None) -> F32Array:
        """What row `row`'s token is drawn from: float32 [V], filters applied."""
        job = self.jobs[row]
        sofar = job.tokens[: self.position]
        return process_logits(self.logits_NV[row], params or job.params, job.prompt, sofar)

    def honest(self, row: int, noise: Noise) -> int:
        """The token that an honest machine with these logits serves."""
        job = self.jobs[row]
        if job.params.temperature == 0:
            return greedy(self.scores(row))
        noise.move(job.seed, self.position)
        return noise.sample(self.scores(row))

    def admissible(self, margin: float) -> list[tuple[I64Array, I64Array]]:
        """For each row the tokens within `margin` nats of the best, best first, and their gaps in
        units. As the verifier counts them where no filter is on."""
        params = self.jobs[0].params
        scores_NV = np.stack([self.scores(row) for row in range(len(self.jobs))])
        draws = None
        if params.temperature > 0:
            seeds = [job.seed for job in self.jobs]
            draws = Draws.of(seeds, [self.position] * len(seeds))
        any_N = scores_NV.argmax(axis=1).astype(np.int32)
        reach = round(margin / scale(params) * 2**20)
        found = contenders(scores_NV, draws, any_N, scores_NV[np.arange(len(any_N)), any_N], reach)
        rows = []
        for start, end in zip(found.start_R[:-1], found.start_R[1:], strict=True):
            order_K = np.lexsort((found.id_N[start:end], found.gap_N[start:end]))
            rows.append(
                (found.id_N[start:end][order_K].astype(np.int64), found.gap_N[start:end][order_K])
            )
        return rows


@dataclass(slots=True)
class Sent:
    """How many bits each token of each job said, in the sender's own count."""

    bits: dict[int, list[float]] = field(default_factory=dict)

    def add(self, job: Job, bits: float) -> None:
        """One more token of a job."""
        self.bits.setdefault(job.index, []).append(bits)

    def total(self) -> float:
        """All of it."""
        return sum(map(sum, self.bits.values()))


class Sender(Protocol):
    """The owned server: chooses a token for every job of a turn, or ABORT."""

    sent: Sent

    def send(self, turn: Turn) -> Sequence[int]: ...


class Receiver(Protocol):
    """Who reads the answers. He knows model, prompts and used seeds as well as the sender."""

    def hear(self, turn: Turn, tokens: Sequence[int]) -> None: ...

    def tally(self, jobs: Sequence[Job]) -> tuple[int, int]:
        """Bits received and how many of them are wrong, once all `jobs` are over."""
        ...


def serve(outer: Outer, model: Model, jobs: Sequence[Job], sender: Sender) -> None:
    """Run `jobs` to their ends, all at once, with `sender` choosing tokens."""
    live = list(jobs)
    logits_NV = model.forward([(job.number, job.prompt) for job in live])
    position = 0
    while live:
        tokens = sender.send(Turn(tuple(live), position, logits_NV))
        for job, token in zip(live, tokens, strict=True):
            if token == ABORT:
                outer.fail(job)
            else:
                outer.take(job, int(token))
        outer.stepped()
        live = _go_on(model, live, [job.reason is None for job in live])
        position += 1
        if live:
            logits_NV = model.forward([(job.number, job.tokens[-1:]) for job in live])


def listen(model: Model, jobs: Sequence[Job], receiver: Receiver) -> None:
    """Run the model over finished `jobs` as it ran when they were served, and let the receiver
    hear: the same calls in the same order, so that his logits are the sender's, bit for bit."""
    live = [job for job in jobs if job.tokens]
    # Jobs that failed at once had a row in the first call, too.
    logits_NV = model.forward([(job.number, job.prompt) for job in jobs])
    logits_NV = logits_NV[[bool(job.tokens) for job in jobs]]
    for job in jobs:
        if not job.tokens:
            model.drop(job.number)
    position = 0
    while live:
        receiver.hear(
            Turn(tuple(live), position, logits_NV), [job.tokens[position] for job in live]
        )
        position += 1
        live = _go_on(model, live, [len(job.tokens) > position for job in live])
        if live:
            logits_NV = model.forward([(job.number, [job.tokens[position - 1]]) for job in live])


def _go_on(model: Model, jobs: list[Job], goes_on: list[bool]) -> list[Job]:
    for job, more in zip(jobs, goes_on, strict=True):
        if not more:
            model.drop(job.number)
    return [job for job, more in zip(jobs, goes_on, strict=True) if more]


class Honest:
    """No attacker at all."""

    def __init__(self, vocab_size: int) -> None:
        self.sent = Sent()
        self._noise = Noise(vocab_size)

    def send(self, turn: Turn) -> Sequence[int]:
        tokens = [turn.honest(row, self._noise) for row in range(len(turn.jobs))]
        for job in turn.jobs:
            self.sent.add(job, 0.0)
        return tokens
