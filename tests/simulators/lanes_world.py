"""One outer half with several lanes, each to an inner half of its own, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from link_world import QUICK, SECRET, Answer, World

from tidegate.clock import SystemClock
from tidegate.serve.jobs import Job
from tidegate.serve.outer.lanes import Lane, Lanes
from tidegate.serve.outer.link import LinkEngine
from tidegate.serve.outer.link_account import Purse
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.serve.telemetry import Metrics

NAMES = ("east", "north", "west")
SLOTS = 4


class LanesWorld:
    """`worlds` are inner halves by name; the engines that they come with are not used."""

    def __init__(
        self,
        names: tuple[str, ...] = NAMES,
        *,
        slots: int = SLOTS,
        purses: Mapping[str, Purse] | None = None,
        **more: object,
    ) -> None:
        self.metrics = Metrics()
        self.worlds = {name: World(**more) for name in names}  # type: ignore[arg-type]
        self.unreachable: set[str] = set()
        lanes = []
        for name, world in self.worlds.items():
            link = LinkEngine(
                lambda name=name: self._connect(name),  # type: ignore[misc]
                SECRET,
                world.weak_outer,
                world.tokenizer,
                world.seeds,
                (purses or {}).get(name, world.purse),
                SystemClock(),
                self.metrics,
                replace(LinkSettings(policy=QUICK), lane=name, slots=slots),
            )
            lanes.append(Lane(name, link, slots, SystemClock()))
        self.lane = {lane.name: lane for lane in lanes}
        self.lanes = Lanes(lanes, self.metrics)

    async def __aenter__(self) -> LanesWorld:
        await self.lanes.__aenter__()
        await self.until_up(*self.worlds)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.lanes.__aexit__()
        for world in self.worlds.values():
            await asyncio.gather(*world._tasks, return_exceptions=True)
            world.server.close()

    async def answer(self, job: Job) -> Answer:
        answer = Answer()
        async for event in self.lanes.stream(job):
            answer.take(event)
        return answer

    async def until_up(self, *names: str) -> None:
        """Wait for lanes to be in step."""
        async with asyncio.timeout(10):
            while not all(self.lane[name].link.healthy() for name in names):
                await asyncio.sleep(0.005)

    def cut(self, name: str) -> None:
        """An inner half dies: its connection breaks, and it takes no other."""
        self.unreachable.add(name)
        for task in self.worlds[name]._tasks:
            task.cancel()

    def used(self) -> dict[str, int]:
        """Tokens by lane."""
        return {name: lane.link.totals.tokens for name, lane in self.lane.items()}

    async def _connect(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if name in self.unreachable:
            raise ConnectionRefusedError
        return await self.worlds[name].connect()
