"""Models that fail, halves that vanish, connections that break."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from link_world import QUICK, TableModel, World, job, same

from tidegate.errors import ModelError
from tidegate.models.port import F32Array
from tidegate.serve.inner.draw import TRACKS
from tidegate.serve.inner.generate import Draft
from tidegate.serve.inner.reasoning import Thinking
from tidegate.serve.jobs import Failed
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.units import Seconds


def failing(slot: int, after: int, error: Exception) -> object:
    """Refuses every call that has the slot's sequence in it, from call `after` on."""

    def touch(model: TableModel, batch: Sequence[tuple[int, Sequence[int]]], _: F32Array) -> None:
        if model.calls > after and any(s // TRACKS == slot for s, _ in batch):
            raise error

    return touch


@pytest.mark.parametrize("error", [ModelError("no"), RuntimeError("out of memory")])
async def test_a_stream_the_strong_model_fails_for_is_aborted_and_others_go_on(
    error: Exception,
) -> None:
    async with World() as world:
        world.strong.touch = failing(1, 5, error)  # type: ignore[assignment]
        answers = await asyncio.gather(*(world.answer(job(n, max_tokens=20)) for n in range(4)))
        for number, answer in enumerate(answers):
            expected = world.expected(job(number, max_tokens=20))
            if isinstance(answer.end, Failed):
                assert answer.end.code == "engine_error"
                assert answer.tokens == expected.tokens[: len(answer.tokens)]
            else:
                assert same(answer, expected)
        assert sum(isinstance(answer.end, Failed) for answer in answers) == 1
        assert world.engine.healthy()
        assert world.connections == 1


async def test_logits_that_are_no_numbers_abort_their_stream() -> None:
    def poison(_: TableModel, batch: Sequence[tuple[int, object]], logits_NV: F32Array) -> None:
        logits_NV[0] = float("nan")

    async with World() as world:
        world.strong.touch = poison
        first, second = await asyncio.gather(
            world.answer(job(0)), world.answer(job(1, max_tokens=5))
        )
        assert isinstance(first.end, Failed)
        assert first.end.code == "engine_error"
        assert second.end is not None


async def test_a_candidate_that_fails_loses_and_the_others_are_scored() -> None:
    def touch(model: TableModel, batch: Sequence[tuple[int, Sequence[int]]], _: F32Array) -> None:
        if model.calls > 4 and any(s % TRACKS == 0 for s, _ in batch):
            raise ModelError("no")

    wanted = job(2, max_tokens=20, candidates=3)
    async with World() as world:
        world.strong.touch = touch
        answer = await world.answer(wanted)
        assert any(same(answer, world.expected(wanted, index)) for index in (1, 2))


async def test_a_scorer_that_fails_does_not_take_the_answer_with_it() -> None:
    def broken(_: Draft) -> float:
        raise ValueError("no score")

    wanted = job(2, max_tokens=8, candidates=3)
    async with World(scorer=broken) as world:
        assert same(await world.answer(wanted), world.expected(wanted, 0))


async def test_a_model_that_fails_while_it_reasons_aborts_the_stream() -> None:
    thinking = Thinking(start=(90,), end=(91,), max_tokens=50)
    async with World(thinking=thinking) as world:
        world.strong.touch = failing(0, 3, ModelError("no"))  # type: ignore[assignment]
        end = (await world.answer(job(2, reasoning=True))).end
        assert isinstance(end, Failed)
        assert end.code == "engine_error"
        assert world.engine.healthy()


@pytest.mark.parametrize("side", ["weak_inner", "weak_outer"])
async def test_a_weak_model_that_fails_ends_the_session_and_the_next_one_works(side: str) -> None:
    def touch(model: TableModel, *_: object) -> None:
        if model.calls == 6:
            raise ModelError("no")

    async with World() as world:
        getattr(world, side).touch = touch
        answers = await asyncio.gather(*(world.answer(job(n, max_tokens=30)) for n in range(3)))
        assert all(isinstance(answer.end, Failed) for answer in answers)
        assert same(await world.answer(job(5)), world.expected(job(5)))
        assert world.purse.held == {}


async def test_jobs_that_wait_while_the_link_is_down_are_answered_when_it_is_back() -> None:
    async with World() as world:
        connect = world.connect
        refusals = 3

        async def refuse() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise ConnectionRefusedError
            return await connect()

        world.engine._connect = refuse
        assert not world.engine.healthy()
        assert same(await world.answer(job(1)), world.expected(job(1)))
        assert world.engine.healthy()


async def test_jobs_do_not_wait_for_ever_for_an_inner_half_that_is_gone() -> None:
    async def refuse() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise ConnectionRefusedError

    world = World(settings=LinkSettings(policy=QUICK, max_failures=2))
    world.engine._connect = refuse
    async with world:
        end = (await world.answer(job(1))).end
    assert isinstance(end, Failed)
    assert end.code == "link_error"
    assert world.purse.spent == {}
    assert world.purse.held == {}


async def test_shutting_down_ends_every_stream_and_settles_every_reservation() -> None:
    world = World()
    async with world:
        running = [asyncio.create_task(world.answer(job(n, max_tokens=4000))) for n in range(3)]
        while len(world.frames) < 5:
            await asyncio.sleep(0)
    answers = await asyncio.gather(*running)
    assert all(isinstance(answer.end, Failed) for answer in answers)
    assert world.purse.held == {}
    assert sum(world.purse.spent.values()) >= 8 * sum(map(len, world.frames))
    end = (await world.answer(job(1))).end
    assert isinstance(end, Failed)


async def test_a_reader_that_never_reads_does_not_hold_up_the_others() -> None:
    async with World() as world:
        idle = world.engine.stream(job(0, max_tokens=50))
        await anext(idle)
        assert same(await world.answer(job(1)), world.expected(job(1)))
        await idle.aclose()  # type: ignore[attr-defined]


async def test_an_inner_half_that_stops_answering_is_given_up() -> None:
    async with World(settings=LinkSettings(policy=QUICK, late_after=Seconds(0.1))) as world:
        world.tamper = lambda _, __: b""
        end = (await world.answer(job(1))).end
    assert isinstance(end, Failed)
    assert end.code == "late_frame"
