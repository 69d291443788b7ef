"""Several inner halves: who gets a job, and what becomes of it when one of them goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from lanes_world import NAMES, SLOTS, LanesWorld
from link_world import Answer, MemoryPurse, TableModel, job, same

from tidegate.errors import BudgetExceededError, ConfigError, EngineDownError
from tidegate.models.port import F32Array
from tidegate.serve.inner.reasoning import Thinking
from tidegate.serve.jobs import Failed, Finished
from tidegate.serve.outer import lanes as lanes_module
from tidegate.serve.outer.lane_ids import mint, ranked, tag_of
from tidegate.serve.outer.lanes import FAILING, FAILURES
from tidegate.serve.telemetry import Metrics

LONG = 90


def value(world: LanesWorld, sample: str) -> float:
    lines = world.metrics.render().decode().splitlines()
    return float(next(line for line in lines if line.startswith(sample + " ")).split()[-1])


async def test_answers_are_those_of_a_single_link_whatever_lane_they_took():
    async with LanesWorld() as world:
        jobs = [job(number) for number in range(12)]
        answers = await asyncio.gather(*map(world.answer, jobs))
        one = world.worlds["east"]
        assert all(same(a, one.expected(j)) for a, j in zip(answers, jobs, strict=True))
        assert all(world.used().values()), "every lane had its part"


async def test_a_session_stays_on_its_lane_and_others_go_where_there_is_room():
    async with LanesWorld() as world:
        for number in range(6):
            await world.answer(job(number, principal="ann", session="chat 1"))
        assert sum(tokens > 0 for tokens in world.used().values()) == 1


async def test_a_full_lane_lets_its_sessions_go_elsewhere():
    async with LanesWorld(slots=1) as world:
        same_session = {"principal": "ann", "session": "chat 1"}
        answers = [world.answer(job(number, **same_session)) for number in range(len(NAMES))]
        await asyncio.gather(*answers)
        assert all(world.used().values())


def test_sessions_of_a_lane_that_goes_move_and_no_others():
    before = {n: ranked(NAMES, "ann", f"chat {n}")[0] for n in range(200)}
    after = {n: ranked(NAMES[1:], "ann", f"chat {n}")[0] for n in range(200)}
    assert {before[n] for n in before if before[n] != after[n]} == {NAMES[0]}
    assert set(before.values()) == set(NAMES)
    assert any(ranked(NAMES, "bob", f"chat {n}")[0] != before[n] for n in before), "by principal"


def test_ids_of_reasoning_tell_their_lane_and_nothing_else_twice():
    made = [mint("east") for _ in range(100)]
    assert {one[:4] for one in made} == {tag_of("east")}
    assert len({one[4:] for one in made}) == 100
    assert len({tag_of(name) for name in NAMES}) == len(NAMES)
    assert len({mint("")[:4] for _ in range(100)}) > 90, "without lanes all of it is random"


async def test_reasoning_is_recalled_where_it_is_kept():
    thinking = Thinking((1, 2), (3, 4), max_tokens=8)
    async with LanesWorld(thinking=thinking) as world:
        for number in range(4):
            first = await world.answer(job(number, principal="ann", reasoning=True))
            assert isinstance(first.end, Finished)
            reference = first.end.reasoning_ref
            assert reference is not None
            again = await world.answer(job(10 + number, principal="ann", reasoning_ref=reference))
            assert isinstance(again.end, Finished), again.end


async def test_reasoning_of_a_lane_that_is_gone_is_not_looked_for_elsewhere():
    thinking = Thinking((1, 2), (3, 4), max_tokens=8)
    async with LanesWorld(thinking=thinking) as world:
        first = await world.answer(job(0, principal="ann", reasoning=True))
        assert isinstance(first.end, Finished)
        reference = str(first.end.reasoning_ref)
        (holder,) = (name for name in NAMES if tag_of(name).hex() == reference[:8])
        world.cut(holder)
        while world.lane[holder].link.healthy():
            await asyncio.sleep(0.005)
        again = await world.answer(job(1, principal="ann", reasoning_ref=reference))
        assert again.end == Failed("overloaded", "No lane can take the job now.")


async def begun(world: LanesWorld, number: int, into: list[Answer], **more: object) -> None:
    """Answer a long job, keeping what came of it also where it breaks."""
    answer = Answer()
    into.append(answer)
    async for event in world.lanes.stream(job(number, max_tokens=LONG, **more)):
        answer.take(event)


async def until(told: object) -> None:
    async with asyncio.timeout(10):
        while not told():  # type: ignore[operator]
            await asyncio.sleep(0.002)


async def test_a_lane_that_dies_fails_its_streams_and_nobody_elses_and_is_named():
    async with LanesWorld(eos_logit=-30.0) as world:
        answers: list[Answer] = []
        tasks = [asyncio.create_task(begun(world, n, answers)) for n in range(2 * len(NAMES))]
        await until(lambda: len(answers) == len(tasks) and all(a.tokens for a in answers))
        world.cut("north")
        await asyncio.gather(*tasks)
        failed = [a for a in answers if isinstance(a.end, Failed)]
        assert len(failed) == 2
        assert value(world, 'tidegate_lane_up{lane="north"}') == 0
        assert value(world, 'tidegate_lane_up{lane="east"}') == 1
        assert value(world, 'tidegate_link_up{edge="inner"}') == 1
        assert 'tidegate_lane_incidents_total{kind="link_closed",lane="north"}' in (
            world.metrics.render().decode()
        )
        # All that was pulled over it is paid for, by those who were on it.
        north = world.worlds["north"]
        assert sum(north.purse.spent.values()) >= 8 * sum(map(len, north.frames))
        assert not north.purse.held
        # New jobs go elsewhere; when it is back, it has its part again.
        before = world.used()["north"]
        await asyncio.gather(*(world.answer(job(n)) for n in range(6)))
        assert world.used()["north"] == before
        world.unreachable.clear()
        await world.until_up("north")
        await asyncio.gather(*(world.answer(job(n)) for n in range(6)))
        assert world.used()["north"] > before


async def test_jobs_that_wait_for_a_lane_that_dies_are_answered_by_another():
    async with LanesWorld(("east", "west"), slots=1, eos_logit=-30.0) as world:
        answers: list[Answer] = []
        tasks = [asyncio.create_task(begun(world, n, answers)) for n in range(2)]
        await until(lambda: len(answers) == 2 and all(a.tokens for a in answers))
        waiting = [asyncio.create_task(world.answer(job(n))) for n in range(2, 6)]
        await asyncio.sleep(0)
        await until(lambda: world.lane["east"].link.jobs == 3)
        world.cut("east")
        served = await asyncio.gather(*waiting)
        one = world.worlds["west"]
        assert all(same(a, one.expected(job(n))) for a, n in zip(served, range(2, 6), strict=True))
        await asyncio.gather(*tasks)
        assert sum(isinstance(answer.end, Failed) for answer in answers) == 1
        assert not world.worlds["east"].purse.held, "what they had reserved there is free again"


async def test_without_any_lane_jobs_are_refused_and_nothing_hangs():
    async with LanesWorld() as world:
        for name in NAMES:
            world.cut(name)
        await until(lambda: not world.lanes.healthy())
        answer = await world.answer(job())
        assert answer.end == Failed("overloaded", "No lane can take the job now.")


async def test_draining_lets_answers_end_takes_no_more_and_is_no_incident():
    async with LanesWorld(("east", "west"), eos_logit=-30.0) as world:
        answers: list[Answer] = []
        tasks = [asyncio.create_task(begun(world, n, answers)) for n in range(2)]
        await until(lambda: len(answers) == 2 and all(a.tokens for a in answers))
        draining = asyncio.create_task(world.lanes.drain("east"))
        await asyncio.sleep(0.01)
        assert [lane.state for lane in world.lanes.shown()] == ["draining", "up"]
        assert value(world, 'tidegate_lane_draining{lane="east"}') == 1
        before = world.lane["west"].link.totals.tokens
        assert isinstance((await world.answer(job(7))).end, Finished)
        assert world.lane["west"].link.totals.tokens > before
        await asyncio.gather(*tasks, draining)
        assert all(isinstance(answer.end, Finished) for answer in answers)
        assert [lane.state for lane in world.lanes.shown()] == ["drained", "up"]
        assert world.lane["east"].link.totals.incidents == 0
        # Its inner half may be anywhere now; back again, it is used again.
        world.lanes.undrain("east")
        await world.until_up("east")
        with pytest.raises(ConfigError, match="there is no lane"):
            await world.lanes.drain("south")


async def test_a_rolling_restart_fails_nobody():
    async with LanesWorld(eos_logit=-30.0) as world:
        stop = asyncio.Event()
        ends: list[object] = []

        async def ask(number: int) -> None:
            while not stop.is_set():
                ends.append((await world.answer(job(number, max_tokens=40))).end)

        asking = [asyncio.create_task(ask(number)) for number in range(6)]
        for name in NAMES:
            await world.lanes.drain(name)
            world.cut(name)
            await asyncio.sleep(0.02)
            world.unreachable.clear()
            world.lanes.undrain(name)
            await world.until_up(name)
        stop.set()
        await asyncio.gather(*asking)
        assert len(ends) > 6
        assert all(isinstance(end, Finished) for end in ends)


async def test_a_lane_whose_engine_only_aborts_does_not_swallow_anybody():
    async with LanesWorld(("east", "west")) as world:
        world.lane["east"]._rest = 1000.0

        def broken(*_: object) -> None:
            raise RuntimeError("no such device")

        world.worlds["east"].strong.touch = broken
        one = world.worlds["west"]
        for number in range(9):
            answer = await world.answer(job(number, max_tokens=4))
            assert same(answer, one.expected(job(number, max_tokens=4)))
        # It was asked no oftener than it takes to know, and what it said of that is paid for.
        assert world.lane["east"].link.totals.bits > 0
        assert sum(world.worlds["east"].purse.spent.values()) > 0
        assert not world.worlds["east"].purse.held
        assert world.lane["east"].state() == "failing"
        assert value(world, f'tidegate_incidents_total{{kind="{FAILING}"}}') >= 1
        # Repaired, it is tried with one job after its rest, and then has its part again.
        world.worlds["east"].strong.touch = lambda *_: None
        world.lane["east"]._until = 0.0
        ends = [(await world.answer(job(n, max_tokens=4))).end for n in range(4)]
        assert all(isinstance(end, Finished) for end in ends)
        assert world.lane["east"].state() == "up"


async def test_an_answer_that_was_begun_is_not_given_to_another_lane():
    async with LanesWorld(("east", "west"), eos_logit=-30.0) as world:
        answers: list[Answer] = []
        tasks = [asyncio.create_task(begun(world, n, answers)) for n in range(2)]
        await until(lambda: len(answers) == 2 and all(a.tokens for a in answers))

        def broken(*_: object) -> None:
            raise RuntimeError("no such device")

        world.worlds["east"].strong.touch = broken
        await asyncio.gather(*tasks)
        ends = [answer.end for answer in answers]
        assert sum(isinstance(end, Failed) and end.code == "engine_error" for end in ends) == 1
        assert sum(isinstance(end, Finished) for end in ends) == 1


async def test_where_every_engine_is_broken_the_failure_is_told():
    async with LanesWorld(("east", "west")) as world:

        def broken(*_: object) -> None:
            raise RuntimeError("no such device")

        for one in world.worlds.values():
            one.strong.touch = broken
        for number in range(2 * FAILURES):
            end = (await world.answer(job(number))).end
            assert isinstance(end, Failed)
            assert end.code == "engine_error"


async def test_an_inner_half_that_leaves_ends_what_it_began_and_new_jobs_go_elsewhere():
    async with LanesWorld(("east", "west"), eos_logit=-30.0) as world:
        answers: list[Answer] = []
        tasks = [asyncio.create_task(begun(world, n, answers)) for n in range(2)]
        await until(lambda: len(answers) == 2 and all(a.tokens for a in answers))
        world.worlds["east"].server.leave()
        one = world.worlds["west"]
        for number in range(2, 6):
            assert same(await world.answer(job(number)), one.expected(job(number)))
        await asyncio.gather(*tasks)
        assert all(isinstance(answer.end, Finished) for answer in answers)


async def test_users_cannot_close_a_lane_by_asking_for_what_cannot_be():
    async with LanesWorld(("east", "west")) as world:
        for number in range(3 * FAILURES):
            missing = mint(NAMES[0]).hex()
            await world.answer(job(number, reasoning_ref=missing))
        assert {lane.state for lane in world.lanes.shown()} == {"up"}


async def test_an_engine_that_is_down_ends_the_link_instead_of_aborting_stream_by_stream():
    async with LanesWorld(("east", "west"), eos_logit=-30.0) as world:
        answers: list[Answer] = []
        tasks = [asyncio.create_task(begun(world, n, answers)) for n in range(4)]
        await until(lambda: len(answers) == 4 and all(a.tokens for a in answers))
        down: list[bool] = []
        world.worlds["east"].server.on_down = lambda: down.append(True)

        def lost(_: TableModel, batch: Sequence[object], logits_NV: F32Array) -> None:
            raise EngineDownError("rank 1 of 2 is gone")

        world.worlds["east"].strong.touch = lost
        await asyncio.gather(*tasks)
        failed = [a.end for a in answers if isinstance(a.end, Failed)]
        assert {end.code for end in failed} == {"link_closed"}
        assert len(failed) == 2
        assert down


async def test_a_lanes_own_budget_sends_jobs_to_the_others_until_none_has_any():
    purses = {"east": MemoryPurse(cap=1), "west": MemoryPurse(cap=10**9)}
    async with LanesWorld(("east", "west"), purses=purses) as world:
        for number in range(4):
            assert isinstance((await world.answer(job(number))).end, Finished)
        assert world.used()["east"] == 0
        purses["west"].cap = 1
        with pytest.raises(BudgetExceededError):
            await world.answer(job(9))


def test_an_outer_half_without_a_lane_is_refused():
    with pytest.raises(ConfigError):
        lanes_module.Lanes([], Metrics())


@pytest.mark.parametrize("slots", [1, SLOTS])
async def test_a_reader_who_leaves_frees_his_slot(slots: int):
    async with LanesWorld(("east",), slots=slots, eos_logit=-30.0) as world:
        for number in range(3 * slots):
            stream = world.lanes.stream(job(number, max_tokens=LONG))
            async for _ in stream:
                break
            await stream.aclose()  # type: ignore[attr-defined]
        await until(lambda: world.lane["east"].link.jobs == 0)
        assert isinstance((await world.answer(job(50))).end, Finished)
