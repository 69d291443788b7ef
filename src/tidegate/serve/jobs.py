"""What the HTTP side asks of the link, and what it hears back.

The HTTP application knows only these types and the `Engine` port; the link behind it may be the
real one, the same engine without a link (for the benchmark's baseline), or a fake in tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tidegate.sampling.finish import FinishReason, Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import prompt_digest
from tidegate.units import Bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One choice of one request: one stream on the link.

    `request_id` and `choice` name it; a request with n choices is n jobs. `candidates` > 1 asks the
    inner half to generate that many and let only the scorer's winner leave. `reasoning_ref` is the
    opaque id of reasoning kept inside, from an earlier answer. Jobs of one principal that name the
    same `session` go to the same lane as far as that can be.
    """

    request_id: str
    choice: int
    principal: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    limits: Limits
    user_seed: int | None = None
    attempt: int = 0
    candidates: int = 1
    reasoning: bool = False
    reasoning_ref: str | None = None
    session: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream runs: the link's session in hex, its slot, the step at which it joined.

    `candidate` is the draft that won, where the inner half made several.
    """

    session: str
    slot: int
    joined: int
    candidate: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """More of the answer. `text` is whole characters only and never part of a stop string.

    The first of the tokens was said at `step` of `place`, where the engine has such; each of the
    others one step later. They are for the record and make no difference to anybody else.
    """

    token_ids: tuple[int, ...]
    text: str
    place: Place | None = field(default=None, compare=False)
    step: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete. `bits` is the stream's share of all that crossed, with padding."""

    reason: FinishReason
    bits: Bits
    completion_tokens: int
    reasoning_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The stream was aborted; what was delivered so far stands. `code` is a TidegateError code."""

    code: str
    message: str


Event = Delta | Finished | Failed


def joined(deltas: Sequence[Delta]) -> Delta:
    """At least one delta, all in a row, as one."""
    if len(deltas) == 1:
        return deltas[0]
    return Delta(
        tuple(token for delta in deltas for token in delta.token_ids),
        "".join(delta.text for delta in deltas),
        deltas[0].place,
        deltas[0].step,
    )


class Engine(Protocol):
    """Something that answers jobs."""

    def stream(self, job: Job) -> AsyncIterator[Event]:
        """Yield deltas, then exactly one `Finished` or `Failed`. Closing the iterator cancels."""
        ...

    def healthy(self) -> bool:
        """Whether new jobs are accepted now."""
        ...


class Seeds(Protocol):
    """Where a job's seed comes from; `sampling.seed.SeedService` is one."""

    def derive(
        self,
        *,
        request_id: str,
        prompt_hash: bytes,
        params: SamplingParams,
        attempt: int,
        user_seed: int | None,
        choice: int,
    ) -> bytes: ...


def seed_of(job: Job, seeds: Seeds) -> bytes:
    """The 32-byte seed a job's answer is drawn with."""
    return seeds.derive(
        request_id=job.request_id,
        prompt_hash=prompt_digest(job.prompt_ids),
        params=job.params,
        attempt=job.attempt,
        user_seed=job.user_seed,
        choice=job.choice,
    )
