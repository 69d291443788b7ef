from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from link_world import Answer, TableModel, TableTokenizer, World, job, same

from tidegate.bench.direct import DirectEngine
from tidegate.clock import SystemClock
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService
from tidegate.serve.inner.reasoning import ReasoningStore
from tidegate.serve.jobs import Failed, Finished, Job

JOBS = [
    *(job(number) for number in range(9)),
    job(9, stop=("b", "QX")),
    job(10, max_tokens=1),
    job(11, candidates=3),
    job(12, user_seed=5, choice=1),
    job(
        13,
        params=SamplingParams(
            temperature=0.8, top_k=20, top_p=0.9, frequency_penalty=0.5, logit_bias=((7, 2.0),)
        ),
    ),
    job(14, limits=Limits(max_tokens=30, ignore_eos=True)),
]


def direct(slots: int = 4) -> DirectEngine:
    return DirectEngine(
        TableModel(),
        TableTokenizer(),
        SeedService(b"a key of more than 16 bytes"),
        ReasoningStore(SystemClock()),
        slots=slots,
    )


async def answer(engine: DirectEngine, one: Job) -> Answer:
    found = Answer()
    async for event in engine.stream(one):
        found.take(event)
    return found


async def test_answers_without_a_link_are_those_through_it_token_for_token():
    async with World() as world:
        linked = await asyncio.gather(*(world.answer(one) for one in JOBS))
    async with direct() as engine:
        assert engine.healthy()
        plain = await asyncio.gather(*(answer(engine, one) for one in JOBS))
    for one, ours, theirs in zip(JOBS, plain, linked, strict=True):
        assert isinstance(ours.end, Finished), one
        assert same(ours, theirs), one
        assert ours.end.bits == 0
    assert not engine.healthy()


async def test_a_reader_who_leaves_frees_its_slot():
    async with direct(slots=1) as engine:
        long = job(0, max_tokens=100_000, limits=Limits(max_tokens=100_000, ignore_eos=True))
        async with aclosing(engine.stream(long)) as events:  # type: ignore[type-var]
            await anext(events)
        assert isinstance((await answer(engine, job(1))).end, Finished)


async def test_a_stream_the_model_cannot_hold_fails_alone():
    async with direct() as engine:
        endless = job(0, prompt_ids=(1,) * 5000)
        bad, good = await asyncio.gather(answer(engine, endless), answer(engine, job(1)))
    assert isinstance(bad.end, Failed)
    assert isinstance(good.end, Finished)


async def test_an_engine_that_breaks_leaves_nobody_hanging(monkeypatch: pytest.MonkeyPatch):
    engine = direct()

    def broken(_step: object) -> None:
        raise MemoryError

    monkeypatch.setattr(engine, "_do", broken)
    async with engine, asyncio.timeout(20):
        assert isinstance((await answer(engine, job(0))).end, Failed)
        assert not engine.healthy()
