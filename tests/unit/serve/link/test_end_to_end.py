"""Whatever joins, leaves and is pulled when: what is decoded outside was generated inside."""

from __future__ import annotations

import asyncio

from link_world import World, job, same


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
