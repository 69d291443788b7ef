"""What the inner half does between two ticks cannot be told from outside."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.clock import ManualClock
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.jobs import Delta, Event, Finished, Job
from tidegate.serve.outer.http_relay import Relay
from tidegate.serve.outer.http_settings import HttpSettings
from tidegate.serve.telemetry import Metrics, make_logger
from tidegate.units import Bits, Seconds, Timestamp

INTERVAL = 0.5


class SimulatedClock:
    """Time moves to the next sleeper's deadline once nothing else can run."""

    def __init__(self) -> None:
        self._time = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> Timestamp:
        return Timestamp(self._time)

    def monotonic(self) -> Seconds:
        return Seconds(self._time)

    async def sleep(self, duration: Seconds) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._time + duration, len(self._sleepers), woken))
        await woken

    async def run(self, task: asyncio.Task[Any]) -> Any:
        while not task.done():
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                first = min(self._sleepers, key=lambda sleeper: sleeper[:2])
                self._sleepers.remove(first)
                self._time = max(self._time, first[0])
                first[2].set_result(None)
        return task.result()


class TimedEngine:
    """Each choice says its texts after the given delays, then finishes."""

    def __init__(self, clock: SimulatedClock, scripts: Sequence[Sequence[tuple[float, str]]]):
        self._clock = clock
        self._scripts = scripts

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        for delay, text in self._scripts[job.choice]:
            await self._clock.sleep(Seconds(delay))
            yield Delta((1,), text)
        yield Finished("stop", Bits(1), len(self._scripts[job.choice]))

    def healthy(self) -> bool:
        return True


def job(choice: int) -> Job:
    return Job(
        request_id="r",
        choice=choice,
        principal="p",
        prompt_ids=(1,),
        params=SamplingParams(),
        limits=Limits(max_tokens=9),
    )


def seen(scripts: Sequence[Sequence[tuple[float, str]]]) -> list[tuple[float, Any]]:
    """Everything a client can observe of these scripts: when a batch left, and what was in it."""

    async def observe(clock: SimulatedClock) -> list[tuple[float, Any]]:
        relay = Relay(
            TimedEngine(clock, scripts),
            [job(choice) for choice in range(len(scripts))],
            settings=HttpSettings(chunk_interval=Seconds(INTERVAL)),
            clock=clock,
            metrics=Metrics(),
            log=make_logger(io.StringIO(), ManualClock()),
        )
        batches = []
        async with relay:
            while batch := await relay.tick():
                batches.append((clock.monotonic(), batch))
        return batches

    async def main() -> list[tuple[float, Any]]:
        clock = SimulatedClock()
        return list(await clock.run(asyncio.create_task(observe(clock))))

    return asyncio.run(main())


SCRIPTS = st.lists(
    st.lists(st.tuples(st.floats(0.001, 2.0), st.text(min_size=1, max_size=3)), max_size=5),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(SCRIPTS)
def test_batches_leave_at_ticks_only_and_lose_nothing(scripts: Any) -> None:
    batches = seen(scripts)
    for time, batch in batches:
        assert time / INTERVAL == pytest.approx(round(time / INTERVAL))
        assert [choice for choice, _ in batch] == sorted(choice for choice, _ in batch)
    for choice, script in enumerate(scripts):
        told = [o for _, batch in batches for place, o in batch if place == choice]
        text = "".join(outcome.text for outcome in told if isinstance(outcome, Delta))
        assert text == "".join(text for _, text in script)
        assert isinstance(told[-1], Finished)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.02, 0.45), min_size=3, max_size=3))
def test_timing_within_a_tick_is_not_passed_on(offsets: list[float]) -> None:
    # Three tokens in ticks 1, 2 and 3, wherever in them; the other choice is always early.
    early = [(0.1, "x")]
    first, second, third = offsets
    jittered = [
        (first, "a"),
        (INTERVAL - first + second, "b"),
        (INTERVAL - second + third, "c"),
    ]
    even = [(0.2, "a"), (0.5, "b"), (0.5, "c")]
    assert seen([jittered, early]) == seen([even, early])


def test_without_an_interval_tokens_leave_as_they_come() -> None:
    engine_times = [(0.1, "a"), (0.7, "b")]

    async def main() -> list[float]:
        clock = SimulatedClock()

        async def observe() -> list[float]:
            relay = Relay(
                TimedEngine(clock, [engine_times]),
                [job(0)],
                settings=HttpSettings(chunk_interval=Seconds(0)),
                clock=clock,
                metrics=Metrics(),
                log=make_logger(io.StringIO(), ManualClock()),
            )
            times = []
            async with relay:
                while await relay.tick():
                    times.append(clock.monotonic())
            return times

        return list(await clock.run(asyncio.create_task(observe())))

    assert asyncio.run(main()) == pytest.approx([0.1, 0.8])
