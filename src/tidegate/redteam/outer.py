"""The outer half in the lab: mints ids, derives seeds, ends answers, and writes the record.

Everything here is the product's: `SeedService`, the rules for ends, the record's writer and its
private part. Left out is the link, since what crosses it are the tokens; `side_doors` tries it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.errors import RecordError
from tidegate.models.port import Model
from tidegate.record.entries import Does, End, Reason, Stack, Tokens
from tidegate.record.private import Clear
from tidegate.sampling.finish import Limits, Progress, Rules, decide
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService, sub_seed
from tidegate.serve import jobs
from tidegate.serve.outer.attempts import Attempts
from tidegate.serve.outer.recorder import beginning
from tidegate.transparency.note import Signer
from tidegate.verify.record_store_memory import MemoryStore
from tidegate.verify.record_writer import Writer

ORIGIN = "lab.example/record"
STEP_SECONDS = 0.02
"""What a decode step takes on the lab's clock; assumed."""

_CHUNK = 16
"""Tokens recorded together."""


def named(name: str) -> bytes:
    """A 32-byte key of the lab: secret only in the story, so that runs can be repeated."""
    return hashlib.blake2b(name.encode(), digest_size=32, person=b"tidegate.redteam").digest()


def stack_of(model: Model) -> Stack:
    """What the record says of who answers."""
    return Stack(
        model=model.fingerprint,
        tokenizer=named("tokenizer").hex(),
        template="",
        weak="",
        vocabulary=model.vocab_size,
        engine="lab",
        numerics=model.describe().numerics,
    )


@dataclass(slots=True, eq=False)
class Job:
    """One answer being given. `seed` is what its noise is drawn from; `index` counts jobs."""

    index: int
    number: int
    principal: str
    prompt: tuple[int, ...]
    params: SamplingParams
    seed: bytes
    limits: Limits
    attempt: int
    tokens: list[int] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    reason: Reason | None = None
    written: int = 0


class Outer:
    """One outer half, its clock and its record. `run` keys everything it draws."""

    def __init__(self, model: Model, run: str) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.seeds = SeedService(named(f"seeds {run}"))
        self.signer = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(named("signer")))
        self.jobs: list[Job] = []
        self._eos_ids = model.eos_ids
        self._attempts = Attempts()
        self._run = run
        self._writer = Writer(self.store, self.signer, self.clock, stack_of(model))

    def ask(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        max_tokens: int,
        principal: str = "client",
        user_seed: int | None = None,
    ) -> Job:
        """Admit a request: id, attempt and seed are made here, and its beginning is recorded."""
        prompt = tuple(prompt)
        index = len(self.jobs)
        request = named(f"request {self._run} {index}").hex()[:24]
        limits = Limits(max_tokens=max_tokens)
        attempt = self._attempts.count(principal, [prompt], params, user_seed)
        asked = jobs.Job(
            request_id=request,
            choice=0,
            principal=principal,
            prompt_ids=prompt,
            params=params,
            limits=limits,
            user_seed=user_seed,
            attempt=attempt,
        )
        seed = jobs.seed_of(asked, self.seeds)
        number = self._write(beginning(asked, seed, Clear()))
        drawn_from = sub_seed(seed, "candidate", 0)
        job = Job(index, number, principal, prompt, params, drawn_from, limits, attempt)
        self.jobs.append(job)
        return job

    def take(self, job: Job, token: int) -> None:
        """A token came in: record it, and end the answer where the rules say so."""
        job.tokens.append(token)
        rules = Rules(job.limits, self._eos_ids, lambda _: "", text=False)
        decision = decide(job.progress, token, rules)
        job.progress = decision.progress
        if decision.reason is not None:
            self._end(job, Reason(decision.reason))
        elif len(job.tokens) - job.written >= _CHUNK:
            self._record(job)

    def fail(self, job: Job) -> None:
        """The inner half says that it cannot go on with this answer."""
        self._end(job, Reason.FAILED)

    def stepped(self) -> None:
        """A decode step is over."""
        self.clock.advance(STEP_SECONDS)

    def close(self) -> None:
        """Sign what is recorded."""
        self._writer.sign()

    def _end(self, job: Job, reason: Reason) -> None:
        self._record(job)
        job.reason = reason
        code = "model_failed" if reason is Reason.FAILED else ""
        self._write(End(job.number, reason, code, len(job.tokens), 0))

    def _record(self, job: Job) -> None:
        fresh = tuple(job.tokens[job.written :])
        if fresh:
            self._write(Tokens(job.number, job.written, None, fresh))
            job.written = len(job.tokens)

    def _write(self, does: Does) -> int:
        (done,) = self._writer.append([does])
        if isinstance(done, RecordError):
            raise done
        return done
