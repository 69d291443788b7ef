"""Nothing leaves before it is recorded, and the record alone is enough to replay it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import cast

import pytest
from link_world import Answer, World, job, same
from record_world import EXPECTED, SIGNER, STACK

from tidegate.clock import ManualClock
from tidegate.errors import BudgetExceededError, RecordError
from tidegate.record.entries import Begin, End, Prefill, Reason, Tokens, params_of
from tidegate.record.private import Clear, Private
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService
from tidegate.serve.jobs import Delta, Engine, Event, Failed, Finished, Job
from tidegate.serve.outer.recorder import RecordedEngine
from tidegate.units import Bits
from tidegate.verify.record_commit import GroupCommit
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_seal import open_private
from tidegate.verify.record_store_memory import MemoryStore
from tidegate.verify.record_writer import Writer

SEEDS = SeedService(b"a key of sixteen bytes at least")


def recording(store: MemoryStore) -> GroupCommit:
    clock = ManualClock()
    return GroupCommit(lambda more: Writer(store, SIGNER, clock, STACK, more=more), clock)


def recorded(store: MemoryStore) -> list[Response]:
    reader = Reader(store, SIGNER.verifier, expected=EXPECTED)
    found = [item for item in reader.read() if isinstance(item, Response)]
    assert list(reader.finish()) == []
    return sorted(found, key=lambda response: response.begin.request)


def replayed(response: Response, world: World) -> Job:
    """The job that the record describes; nothing in it comes from anywhere else."""
    private = open_private(response.begin, response.number, None, world.seeds)
    assert isinstance(private, Private)
    begin = response.begin
    return Job(
        request_id=begin.request,
        choice=begin.choice,
        principal=begin.principal,
        prompt_ids=private.prompt,
        params=params_of(begin),
        limits=Limits(max_tokens=begin.max_tokens, stop=private.stop, ignore_eos=begin.ignore_eos),
        user_seed=private.user_seed,
        attempt=begin.attempt,
        candidates=begin.candidates,
    )


async def answer_all(engine: Engine, jobs: Sequence[Job]) -> list[list[Event]]:
    async def one(asked: Job) -> list[Event]:
        return [event async for event in engine.stream(asked)]

    return list(await asyncio.gather(*map(one, jobs)))


@pytest.mark.parametrize("exact", [True, False])
async def test_the_record_alone_is_enough_to_replay(exact: bool) -> None:
    penalties = SamplingParams(temperature=1.0, presence_penalty=0.5, repetition_penalty=1.2)
    store = MemoryStore()
    async with recording(store) as log, World(exact=exact, eos_logit=2.0) as world:
        jobs = [
            *(job(number, max_tokens=12) for number in range(6)),
            job(6, params=penalties, user_seed=-5),
            job(7, choice=1, attempt=3),
            job(8, candidates=3),
        ]
        text = world.expected(job(9)).text
        jobs.append(job(9, stop=(text[3:5],)))
        engine = RecordedEngine(world.engine, world.seeds, log, Clear())
        said = await answer_all(engine, jobs)
    responses = recorded(store)
    assert [response.begin.request for response in responses] == [j.request_id for j in jobs]
    for response, events, asked in zip(responses, said, jobs, strict=True):
        assert replayed(response, world) == asked
        prefill = response.prefill
        assert prefill is not None
        expected = world.expected(replayed(response, world), prefill.candidate)
        assert response.tokens == expected.tokens
        end = events[-1]
        assert isinstance(end, Finished)
        assert (response.end.reason.value, response.end.bits) == (end.reason, end.bits)
        assert same(_answer_of(events), expected)


async def test_steps_say_who_ran_beside_whom() -> None:
    """A replay at the same batches needs to know which streams shared each step."""
    store = MemoryStore()
    async with recording(store) as log, World() as world:
        engine = RecordedEngine(world.engine, world.seeds, log, Clear())
        await answer_all(engine, [job(number, max_tokens=9) for number in range(12)])
    places = set()
    for response in recorded(store):
        prefill = response.prefill
        assert prefill is not None
        step = response.chunks[0].step
        assert step >= prefill.step
        for chunk in response.chunks:
            assert chunk.step == step + chunk.start
        places |= {(step + n, prefill.slot) for n in range(len(response.tokens))}
    assert len(places) == 12 * 9


def _answer_of(events: Sequence[Event]) -> Answer:
    answer = Answer()
    for event in events:
        answer.take(event)
    return answer


class Scripted:
    """An engine that says what it is told to; an exception is raised, a future is waited for."""

    def __init__(self, *events: Event | Exception | asyncio.Event) -> None:
        self._events = events
        self.closed = self.started = False

    def healthy(self) -> bool:
        return True

    async def stream(self, _: Job) -> AsyncIterator[Event]:
        self.started = True
        try:
            for event in self._events:
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, asyncio.Event):
                    await event.wait()
                else:
                    yield event
        finally:
            self.closed = True


class SlowLog:
    """A record whose every write waits to be let through."""

    def __init__(self) -> None:
        self.written: list[Begin | Prefill | Tokens | End] = []
        self.left: list[tuple[int | None, Reason, str]] = []
        self.through = asyncio.Event()
        self.error: RecordError | None = None

    async def begin(self, begin: Begin) -> int | None:
        await self.say(0, [])
        self.written.append(begin)
        return 0

    async def say(self, _: int | None, does: Sequence[Prefill | Tokens | End]) -> None:
        await self.through.wait()
        if self.error is not None:
            raise self.error
        self.written.extend(does)

    def leave(self, response: int | None, reason: Reason, code: str = "") -> None:
        self.left.append((response, reason, code))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_goes_inwards_or_leaves_before_it_is_recorded() -> None:
    inside, log = Scripted(Delta((1,), "a"), Finished("stop", Bits(7), 1)), SlowLog()
    came: list[Event] = []

    async def read() -> None:
        async for event in RecordedEngine(inside, SEEDS, log, Clear()).stream(job()):
            came.append(event)  # noqa: PERF401  looked at while it grows

    task = asyncio.create_task(read())
    await settle()
    assert not inside.started
    log.through.set()
    await asyncio.sleep(0)
    log.through.clear()
    await settle()
    assert inside.started
    assert came == []
    log.through.set()
    await task
    assert [type(event) for event in came] == [Delta, Finished]
    assert isinstance(log.written[0], Begin)
    assert log.left == []


async def test_what_comes_during_a_slow_write_is_recorded_together() -> None:
    gate = asyncio.Event()
    inside = Scripted(
        Delta((1,), "a"), gate, Delta((2,), "b"), Delta((3, 4), "c"), Finished("stop", Bits(0), 4)
    )
    log = SlowLog()
    log.through.set()
    stream = RecordedEngine(inside, SEEDS, log, Clear()).stream(job())
    assert await anext(stream) == Delta((1,), "a")
    gate.set()
    await settle()
    assert await anext(stream) == Delta((2, 3, 4), "bc")
    assert log.written[1:] == [
        Tokens(0, 0, None, (1,)),
        Tokens(0, 1, None, (2, 3, 4)),
        End(0, Reason.STOP, "", 4, 0),
    ]


async def test_a_reader_who_leaves_midway_leaves_a_record_that_says_so() -> None:
    store, never = MemoryStore(), asyncio.Event()
    inside = Scripted(Delta((1, 2), "ab"), never)
    async with recording(store) as log:
        engine = RecordedEngine(inside, SEEDS, log, Clear())
        stream = cast("AsyncGenerator[Event, None]", engine.stream(job()))
        async with aclosing(stream):
            await anext(stream)
    (response,) = recorded(store)
    assert inside.closed
    assert response.tokens == (1, 2)
    assert response.end == End(response.number, Reason.CANCELLED, "", 2, 0)


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Failed("non_canonical", "frame 3"), "non_canonical"),
        (BudgetExceededError("spent"), "budget_exceeded"),
        (None, "engine_error"),
    ],
)
async def test_an_answer_that_breaks_is_recorded_with_its_code(
    event: Event | Exception | None, code: str
) -> None:
    store = MemoryStore()
    inside = Scripted(Delta((5,), "x"), *([] if event is None else [event]))
    async with recording(store) as log:
        try:
            await answer_all(RecordedEngine(inside, SEEDS, log, Clear()), [job()])
        except BudgetExceededError:
            assert isinstance(event, BudgetExceededError)
    (response,) = recorded(store)
    assert (response.end.reason, response.end.code) == (Reason.FAILED, code)
    assert response.tokens == (5,)


async def test_what_cannot_be_recorded_does_not_leave() -> None:
    gate, log = asyncio.Event(), SlowLog()
    inside = Scripted(Delta((1,), "a"), gate, Delta((2,), "b"))
    log.through.set()
    stream = RecordedEngine(inside, SEEDS, log, Clear()).stream(job())
    await anext(stream)
    log.error = RecordError("full")
    gate.set()
    with pytest.raises(RecordError):
        await anext(stream)
    assert inside.closed
    assert log.left == [(0, Reason.FAILED, "record_error")]
