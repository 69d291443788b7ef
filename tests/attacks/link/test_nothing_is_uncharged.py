"""At every frame and in every pause, the ledger holds or has charged all that crossed."""

from __future__ import annotations

import asyncio
import random

import pytest
from link_world import QUICK, World, job

from tidegate.ledger import CLOSE_BITS
from tidegate.sampling.finish import Limits
from tidegate.serve.jobs import Failed
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.serve.schedule import PullPolicy
from tidegate.units import Seconds

EAGER = PullPolicy(delay=Seconds(0.0), delay_steps=2)


def covered(world: World) -> int:
    return sum(world.purse.held.values()) + sum(world.purse.spent.values())


class Watch:
    """Counts what crosses and notes every moment at which less was held or charged."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.crossed = 0
        self.short: list[int] = []
        world.tamper = self._frame
        commit, release = world.purse.commit, world.purse.release
        world.purse.commit = lambda number, bits: (commit(number, bits), self.look())
        world.purse.release = lambda number: (release(number), self.look())

    def _frame(self, _number: int, data: bytes) -> bytes:
        self.crossed += 8 * len(data)
        self.look()
        return data

    def look(self) -> None:
        missing = self.crossed - covered(self.world)
        if missing > 0:
            self.short.append(missing)


@pytest.mark.parametrize("seed", range(20))
async def test_bits_are_held_or_charged_whenever_one_looks(seed: int) -> None:
    draw = random.Random(seed)
    policy = draw.choice([QUICK, EAGER])
    async with World(settings=LinkSettings(policy=policy)) as world:
        watch = Watch(world)

        async def one(number: int) -> None:
            await asyncio.sleep(draw.random() * 0.1)
            length = draw.choice([1, 2, 3, 30])
            answer = await world.answer(job(number, limits=Limits(max_tokens=length)))
            watch.look()
            assert not isinstance(answer.end, Failed)

        for _ in range(3):
            await asyncio.gather(*(one(n) for n in range(draw.randint(1, 6))))
            for _ in range(5):
                await asyncio.sleep(0.01)
                watch.look()
    watch.look()
    assert watch.crossed
    assert watch.short == []


async def test_bytes_nobody_asked_for_are_charged_and_so_is_the_end_they_bring() -> None:
    async with World() as world:
        watch = Watch(world)
        plain, extra = world.tamper, bytes(1000)
        world.tamper = lambda n, data: plain(n, data) + extra if n == 3 else plain(n, data)
        answer = await world.answer(job(0, limits=Limits(max_tokens=200)))
        assert isinstance(answer.end, Failed)
        await asyncio.sleep(0.02)
        # How many of them were read before the link broke is the socket's choice.
        assert covered(world) > watch.crossed + CLOSE_BITS


async def test_a_frame_that_does_not_replay_costs_as_much_as_a_close() -> None:
    async with World() as world:
        watch = Watch(world)
        plain = world.tamper
        flipped = lambda data: bytes([data[0] ^ 1]) + data[1:]  # noqa: E731
        world.tamper = lambda n, data: flipped(plain(n, data)) if n == 3 else plain(n, data)
        answer = await world.answer(job(0, limits=Limits(max_tokens=200)))
        assert isinstance(answer.end, Failed)
        await asyncio.sleep(0.02)
        assert covered(world) >= watch.crossed + CLOSE_BITS
