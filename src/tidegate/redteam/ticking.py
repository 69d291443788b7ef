"""Chunks that the inner half delays, seen from outside the outer half's relay, on a lab clock."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import structlog

from tidegate.clock import ManualClock
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.jobs import Delta, Event, Finished, Job
from tidegate.serve.outer.http_relay import Relay
from tidegate.serve.outer.http_settings import HttpSettings
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.serve.telemetry import Metrics
from tidegate.units import Bits, Seconds

TICK: float = HttpSettings().chunk_interval
"""Seconds between the moments at which the outer half lets chunks go."""

WINDOW: float = LinkSettings().late_after
"""Seconds that a frame may take before the session ends."""

_YIELDS = 32
"""Turns of the event loop in which everybody who can run has run."""


class LabClock(ManualClock):
    """Sleepers wake in the order of their times, once nobody has anything left to do."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._counted = 0

    async def sleep(self, duration: Seconds) -> None:
        self._counted += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.monotonic() + duration, self._counted, woken))
        await woken

    async def drive(self) -> None:
        """Move time on for ever; cancel to stop."""
        while True:
            for _ in range(_YIELDS):
                await asyncio.sleep(0)
            if self._sleepers:
                moment, _, woken = heapq.heappop(self._sleepers)
                self.advance(max(0.0, moment - self.monotonic()))
                if not woken.done():
                    woken.set_result(None)


class _Delaying:
    """An engine whose n-th chunk comes `delays[n]` after it could have, one `every` so often."""

    def __init__(self, clock: LabClock, delays: Sequence[float], every: float) -> None:
        self._clock = clock
        self._moments = [place * every + delay for place, delay in enumerate(delays)]

    async def stream(self, job: Job) -> AsyncGenerator[Event, None]:
        for moment in self._moments:
            await self._clock.sleep(Seconds(moment - self._clock.monotonic()))
            yield Delta((1,), "x")
        yield Finished("stop", Bits(0), len(self._moments))

    def healthy(self) -> bool:
        return True


def arrivals(delays: Sequence[float], every: float) -> list[float]:
    """When a client hears each chunk, in seconds on the lab's clock."""
    return asyncio.run(_arrivals(delays, every))


async def _arrivals(delays: Sequence[float], every: float) -> list[float]:
    clock = LabClock()
    job = Job(
        request_id="lab",
        choice=0,
        principal="client",
        prompt_ids=(1,),
        params=SamplingParams(),
        limits=Limits(max_tokens=len(delays)),
    )
    relay = Relay(
        _Delaying(clock, delays, every),
        [replace(job)],
        settings=HttpSettings(),
        clock=clock,
        metrics=Metrics(),
        log=structlog.get_logger(__name__),
    )
    heard: list[float] = []
    driver = asyncio.create_task(clock.drive())
    async with relay:
        while batch := await relay.tick():
            for _, outcome in batch:
                if isinstance(outcome, Delta):
                    heard += [clock.monotonic()] * len(outcome.token_ids)
    driver.cancel()
    return heard
