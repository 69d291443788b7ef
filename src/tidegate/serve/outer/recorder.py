"""Records every answer before it leaves, around any engine.

A job goes inwards only once its beginning, with the commitment to its seed, is durable; tokens are
handed on only once they are. So what left is always in the record, and the record may hold a last
chunk that did not leave, never the other way round. An answer that a reader abandons, or that
breaks, ends in the record after as many tokens as it has.

The port `Log` is all this half knows of where the record lives; `verify.record_commit` keeps it,
and `cli` chooses. The entries are those of the room `record`, below both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Protocol, cast

from tidegate.errors import TidegateError
from tidegate.record.entries import Begin, End, Prefill, Reason, Tokens
from tidegate.record.private import Private, Seal, binding, pack
from tidegate.sampling.seed import commitment
from tidegate.serve.jobs import (
    Delta,
    Engine,
    Event,
    Failed,
    Finished,
    Job,
    Seeds,
    joined,
    seed_of,
)


class Log(Protocol):
    """Where answers are recorded. Each call concerns one answer; any number run at once."""

    async def begin(self, begin: Begin) -> int | None:
        """The answer's number, once its beginning is durable; None if it goes unrecorded.

        Raises RecordError: it must not be served.
        """
        ...

    async def say(self, response: int | None, does: Sequence[Prefill | Tokens | End]) -> None:
        """Return once `does` are durable. Raises RecordError: they must not leave."""
        ...

    def leave(self, response: int | None, reason: Reason, code: str = "") -> None:
        """The answer was abandoned: end it in the record, some time soon."""
        ...


class RecordedEngine:
    """`serve.jobs.Engine` around another, whose every answer is recorded."""

    def __init__(self, engine: Engine, seeds: Seeds, log: Log, seal: Seal, lora: str = "") -> None:
        """`lora` is the fingerprint of the adapter that answers; empty for none."""
        self._engine = engine
        self._seeds = seeds
        self._log = log
        self._seal = seal
        self._lora = lora

    def healthy(self) -> bool:
        """Whether the engine behind is."""
        return self._engine.healthy()

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        """See `Engine.stream`.

        Raises:
            RecordError: the answer cannot be recorded; what was not handed on did not leave.
        """
        begin = beginning(job, seed_of(job, self._seeds), self._seal, self._lora)
        number = await self._log.begin(begin)
        reason, code = Reason.CANCELLED, ""
        open_still = True
        try:
            async with aclosing(_Ahead(self._engine, job)) as ahead:
                count, placed = 0, False
                while True:
                    events = await ahead.take()
                    deltas = [event for event in events if isinstance(event, Delta)]
                    delta = joined(deltas) if deltas else None
                    end = events[-1] if not isinstance(events[-1], Delta) else None
                    await self._log.say(number, _said(number, delta, end, count, placed=placed))
                    open_still = end is None
                    if delta is not None:
                        count += len(delta.token_ids)
                        placed = True
                        yield delta
                    if end is not None:
                        yield end
                        return
        except TidegateError as error:
            reason, code = Reason.FAILED, error.code
            raise
        finally:
            if open_still:
                self._log.leave(number, reason, code)


def beginning(job: Job, seed: bytes, seal: Seal, lora: str = "") -> Begin:
    """The entry that a job begins with; `seed` is what its answer is drawn with."""
    committed = commitment(seed).hex()
    plain = pack(Private(seed, job.prompt_ids, job.limits.stop, job.user_seed))
    bound = binding(job.request_id, job.choice, job.attempt, committed)
    return Begin(
        request=job.request_id,
        choice=job.choice,
        attempt=job.attempt,
        principal=job.principal,
        lora=lora,
        params=job.params.canonical().hex(),
        max_tokens=job.limits.max_tokens,
        ignore_eos=job.limits.ignore_eos,
        candidates=job.candidates,
        reasons=job.reasoning,
        recalls=job.reasoning_ref is not None,
        seed=committed,
        prompt_tokens=len(job.prompt_ids),
        key=seal.key,
        private=seal.seal(plain, bound),
    )


def _said(
    number: int | None, delta: Delta | None, end: Event | None, count: int, *, placed: bool
) -> list[Prefill | Tokens | End]:
    """The entries for one chunk of an answer of which `count` tokens are recorded."""
    does: list[Prefill | Tokens | End] = []
    named = 0 if number is None else number
    if delta is not None:
        place = delta.place
        if place is not None and not placed:
            where = (place.session, place.slot, place.joined, place.candidate)
            does.append(Prefill(named, *where, cached=0, chunks=()))
        if delta.token_ids:
            does.append(Tokens(named, count, delta.step, delta.token_ids))
            count += len(delta.token_ids)
    if isinstance(end, Finished):
        does.append(End(named, Reason(end.reason), "", count, end.bits))
    elif isinstance(end, Failed):
        does.append(End(named, Reason.FAILED, end.code, count, 0))
    return does


class _Ahead:
    """Takes an engine's events as they come, so that those of a slow write are recorded together.

    One task, which `aclose` ends and waits for; with it the engine's stream is closed.
    """

    def __init__(self, engine: Engine, job: Job) -> None:
        self._came: list[Event] = []
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._pump(engine, job))
        self._task.add_done_callback(lambda _: self._arrived.set())

    async def take(self) -> list[Event]:
        """What came since the last call, at least one event; raises what the engine raised."""
        while not self._came:
            if self._task.done():
                self._task.result()
                return [Failed("engine_error", "The engine ended a stream without saying so.")]
            await self._arrived.wait()
            self._arrived.clear()
        came, self._came = self._came, []
        return came

    async def aclose(self) -> None:
        """Close the engine's stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _pump(self, engine: Engine, job: Job) -> None:
        # `Engine` promises that closing the iterator cancels, so it is a generator in all but name.
        stream = cast("AsyncGenerator[Event, None]", engine.stream(job))
        async with aclosing(stream) as events:
            async for event in events:
                self._came.append(event)
                self._arrived.set()
                if not isinstance(event, Delta):
                    return
