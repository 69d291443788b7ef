"""Whatever joins, leaves and is pulled when: what is decoded outside was generated inside."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_world import EOS, QUICK, REVIEWER, VOCABULARY, Answer, World, job, same

from tidegate.errors import BudgetExceededError
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.inner.generate import Draft
from tidegate.serve.inner.reasoning import ReviewRefusedError, Thinking
from tidegate.serve.jobs import Failed, Finished
from tidegate.serve.outer.link_account import SLICE
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.serve.schedule import PullPolicy
from tidegate.units import Seconds

THINKING = Thinking(start=(90,), end=(91,), max_tokens=12)


async def test_a_job_is_answered_with_the_tokens_the_strong_model_drew() -> None:
    async with World() as world:
        answer = await world.answer(job())
    assert same(answer, world.expected(job()))


async def test_many_streams_at_once_do_not_mix() -> None:
    jobs = [job(number, max_tokens=5 + number) for number in range(32)]
    async with World() as world:
        answers = await asyncio.gather(*(world.answer(one) for one in jobs))
    for one, answer in zip(jobs, answers, strict=True):
        assert same(answer, world.expected(one))


async def test_more_jobs_than_slots_wait_their_turn() -> None:
    jobs = [job(number, max_tokens=6) for number in range(20)]
    async with World(settings=LinkSettings(policy=QUICK, slots=3)) as world:
        answers = await asyncio.gather(*(world.answer(one) for one in jobs))
    assert all(same(a, world.expected(one)) for one, a in zip(jobs, answers, strict=True))


async def test_streams_end_by_end_token_stop_string_and_length() -> None:
    plain = job(1, max_tokens=40)
    async with World(eos_logit=5.0) as world:
        text = world.expected(job(1, max_tokens=40, limits=_ignoring(40))).text
        jobs = [
            plain,
            job(1, max_tokens=200, stop=(text[5:8], "never this")),
            job(1, max_tokens=3),
            job(2, limits=_ignoring(30)),
        ]
        answers = [await world.answer(one) for one in jobs]
        for one, answer in zip(jobs, answers, strict=True):
            assert same(answer, world.expected(one))
    reasons = {answer.end.reason for answer in answers if isinstance(answer.end, Finished)}
    assert reasons == {"stop", "length"}
    assert any(EOS in answer.tokens[:-1] for answer in answers)


def _ignoring(max_tokens: int) -> Limits:
    return Limits(max_tokens=max_tokens, ignore_eos=True)


async def test_penalties_biases_and_filters_count_on_both_sides() -> None:
    params = SamplingParams(
        temperature=0.8,
        top_k=20,
        top_p=0.9,
        min_p=0.01,
        presence_penalty=0.5,
        frequency_penalty=0.3,
        repetition_penalty=1.2,
        logit_bias=((5, 3.0), (9, -100.0)),
    )
    wanted = job(4, params=params, max_tokens=60)
    async with World() as world:
        answer = await world.answer(wanted)
    assert same(answer, world.expected(wanted))


async def test_a_prompt_too_long_for_the_weak_model_is_answered_all_the_same() -> None:
    wanted = [job(1, max_tokens=30), job(2, max_tokens=30, prompt_ids=(5,) * 40)]
    async with World(weak_context=20) as world:
        answers = await asyncio.gather(*(world.answer(one) for one in wanted))
    assert all(same(a, world.expected(one)) for one, a in zip(wanted, answers, strict=True))


@settings(max_examples=25)
@given(
    data=st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 30), st.integers(0, 12), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    sizes=st.sets(st.sampled_from([1, 2, 3, 4, 8, 16, 64, 200]), min_size=1),
    ahead=st.integers(1, 4),
    window=st.integers(1, 64),
    slots=st.integers(1, 16),
    exact=st.booleans(),
)
def test_whatever_the_schedule_decoded_equals_generated(
    data: list[tuple[int, int, int, bool]],
    sizes: set[int],
    ahead: int,
    window: int,
    slots: int,
    exact: bool,
) -> None:
    policy = PullPolicy(
        sizes=tuple(sorted(sizes)),
        delay=Seconds(0.0),
        delay_steps=ahead,
        ahead=ahead,
        window=window,
    )

    async def one(
        world: World, number: int, max_tokens: int, pause: int, leave: bool
    ) -> tuple[Answer, Answer, bool]:
        wanted = job(number, max_tokens=max_tokens, choice=pause)
        for _ in range(pause):
            await asyncio.sleep(0)
        answer = Answer()
        async with aclosing(world.engine.stream(wanted)) as events:
            async for event in events:
                answer.take(event)
                if leave and len(answer.tokens) > max_tokens // 2:
                    break
        return answer, world.expected(wanted), leave

    async def run() -> None:
        world = World(exact=exact, eos_logit=4.0, settings=LinkSettings(policy=policy, slots=slots))
        async with world:
            results = await asyncio.gather(*(one(world, *row) for row in data))
        for answer, expected, leave in results:
            if leave and answer.end is None:
                assert answer.tokens == expected.tokens[: len(answer.tokens)]
            else:
                assert same(answer, expected)
        # What was pulled and not answered when the link went down counts as crossed.
        assert sum(world.purse.spent.values()) >= 8 * sum(map(len, world.frames))
        assert world.purse.held == {}
        assert not world.strong.sequences or world.connections == 1

    asyncio.run(run())


async def test_every_bit_that_crossed_is_charged_to_somebody() -> None:
    jobs = [job(number, max_tokens=8 + number) for number in range(9)]
    async with World() as world:
        answers = await asyncio.gather(*(world.answer(one) for one in jobs))
    crossed = 8 * sum(map(len, world.frames))
    told = sum(answer.end.bits for answer in answers if isinstance(answer.end, Finished))
    assert world.allowance.spent == crossed
    assert told <= sum(world.purse.spent.values()) >= crossed
    assert set(world.purse.spent) >= {"principal-0", "principal-1", "principal-2"}
    assert world.purse.held == {}


async def test_a_job_beyond_the_budget_is_refused_before_anything_crosses() -> None:
    async with World(cap=1000) as world:
        with pytest.raises(BudgetExceededError):
            await world.answer(job(max_tokens=1000))
        assert world.frames == []
        assert same(await world.answer(job(max_tokens=4)), world.expected(job(max_tokens=4)))


async def test_an_impossible_job_fails_alone() -> None:
    async with World() as world:
        other = asyncio.create_task(world.answer(job(1)))
        for bad in (
            job(prompt_ids=()),
            job(prompt_ids=(VOCABULARY,)),
            job(candidates=1000),
            job(reasoning_ref="not hex"),
            job(max_tokens=0),
            job(params=SamplingParams(logit_bias=((VOCABULARY, 1.0),))),
        ):
            end = (await world.answer(bad)).end
            assert isinstance(end, Failed)
            assert end.code == "invalid_job"
        assert same(await other, world.expected(job(1)))


async def test_a_reader_that_leaves_frees_its_slot_and_pays_for_what_crossed() -> None:
    async with World(settings=LinkSettings(policy=QUICK, slots=1)) as world:
        async with aclosing(world.engine.stream(job(0, max_tokens=500))) as events:
            async for _ in events:
                break
        assert same(await world.answer(job(1)), world.expected(job(1)))
        assert world.purse.spent["principal-0"] > 0
        assert world.purse.held == {}


async def test_a_job_that_is_left_before_it_joined_costs_nothing() -> None:
    async with World(settings=LinkSettings(policy=QUICK, slots=1)) as world:
        long = asyncio.create_task(world.answer(job(0, max_tokens=100)))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(world.answer(job(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        assert same(await long, world.expected(job(0, max_tokens=100)))
    assert "principal-1" not in world.purse.spent
    assert world.purse.held == {}


async def test_only_the_best_of_several_candidates_leaves() -> None:
    def longest(draft: Draft) -> float:
        return float(len(draft.tokens))

    wanted = job(2, max_tokens=50, candidates=5)
    async with World(eos_logit=7.0, scorer=longest) as world:
        answer, beside = await asyncio.gather(world.answer(wanted), world.answer(job(1)))
        drafts = [world.expected(wanted, candidate) for candidate in range(5)]
        best = max(drafts, key=lambda draft: len(draft.tokens))
        assert len({draft.tokens for draft in drafts}) > 1
        assert same(answer, best)
        assert same(beside, world.expected(job(1)))


async def test_the_default_scorer_prefers_the_likelier_candidate() -> None:
    wanted = job(2, max_tokens=20, candidates=4)
    async with World() as world:
        answer = await world.answer(wanted)
        assert any(same(answer, world.expected(wanted, index)) for index in range(4))


async def test_reasoning_stays_inside_and_a_reviewer_can_read_it() -> None:
    wanted = job(2, max_tokens=10, reasoning=True)
    async with World(thinking=THINKING) as world:
        answer, beside = await asyncio.gather(world.answer(wanted), world.answer(job(1)))
        assert isinstance(answer.end, Finished)
        assert answer.end.reasoning_ref is not None
        record = bytes.fromhex(answer.end.reasoning_ref)
        thoughts = world.store.review(record, REVIEWER)
        assert 0 < len(thoughts) <= THINKING.max_tokens
        # The visible answer is what follows the whole of the reasoning.
        expected = world.expected(wanted, prefix=(90, *thoughts, 91))
        assert answer.tokens == expected.tokens
        with pytest.raises(ReviewRefusedError):
            world.store.review(record, "not the credential")
        with pytest.raises(ReviewRefusedError):
            world.store.review(bytes(16), REVIEWER)
        assert same(beside, world.expected(job(1)))


async def test_reasoning_can_be_referred_to_by_its_owner_only() -> None:
    async with World(thinking=THINKING) as world:
        first = (await world.answer(job(2, max_tokens=5, reasoning=True))).end
        assert isinstance(first, Finished)
        assert first.reasoning_ref is not None
        thoughts = world.store.review(bytes.fromhex(first.reasoning_ref), REVIEWER)
        again = job(5, max_tokens=8, reasoning_ref=first.reasoning_ref)
        answer = await world.answer(again)
        assert answer.tokens == world.expected(again, prefix=(90, *thoughts, 91)).tokens
        stranger = job(3, max_tokens=8, reasoning_ref=first.reasoning_ref)
        end = (await world.answer(stranger)).end
        assert isinstance(end, Failed)
        assert end.code == "engine_error"


async def test_best_of_several_that_reason_works_together() -> None:
    wanted = job(2, max_tokens=10, reasoning=True, candidates=3)
    async with World(thinking=THINKING) as world:
        answer = await world.answer(wanted)
        assert isinstance(answer.end, Finished)
        assert answer.end.completion_tokens == 10


async def test_at_a_fixed_pace_frames_leave_whether_there_is_something_to_say_or_not() -> None:
    paced = LinkSettings(policy=QUICK, pace=Seconds(0.001), pace_bytes=8)
    async with World(settings=paced) as world:
        assert same(await world.answer(job(1)), world.expected(job(1)))
        seen = len(world.frames)
        while len(world.frames) < seen + 3:
            await asyncio.sleep(0)
    assert {len(frame) for frame in world.frames} == {8}
    assert sum(world.purse.spent.values()) >= 8 * 8 * len(world.frames)
    assert world.purse.spent["link"] > 0


async def test_a_budget_that_ends_midway_ends_that_stream_alone() -> None:
    """What was delivered stands, nothing crosses uncharged, and the other stream goes on."""
    async with World(cap=3 * SLICE) as world:
        long = job(0, principal="a", limits=Limits(max_tokens=4000, ignore_eos=True))
        short = job(1, principal="b", limits=Limits(max_tokens=20, ignore_eos=True))
        ended, other = await asyncio.gather(world.answer(long), world.answer(short))
        assert isinstance(ended.end, Failed)
        assert ended.end.code == "budget_exceeded"
        assert same(other, world.expected(short))
        assert ended.tokens == world.expected(long).tokens[: len(ended.tokens)]
    assert sum(world.purse.spent.values()) >= 8 * sum(map(len, world.frames))
    assert sum(world.purse.spent.values()) <= 3 * SLICE
