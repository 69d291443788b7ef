"""The jobs of one request, run concurrently; their events leave in batches, on the outer clock.

**Back-pressure stops here.** Each job's events are taken from the engine as fast as they come, so a
slow reader never holds up the lock-step link, nor anybody else's stream. What waits for the reader
is bounded; beyond the bound the request fails with `slow_reader` and its streams are cancelled.

**Timing stops here.** A batch is handed out only at a tick, a multiple of the chunk interval on the
monotonic clock, and within a batch choices come in order of index, not of arrival.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import cast

from structlog.typing import FilteringBoundLogger

from tidegate.clock import Clock
from tidegate.errors import TidegateError
from tidegate.openai_api.errors import ApiError, of_failure
from tidegate.serve.jobs import Delta, Engine, Event, Failed, Finished, Job, joined
from tidegate.serve.outer.http_settings import HttpSettings
from tidegate.serve.telemetry import Metrics, place_of
from tidegate.units import Seconds

Outcome = Delta | Finished | ApiError


class StreamFailedError(TidegateError):
    """A stream was aborted, by the engine or here; carries the `Failed` event's code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Relay:
    """An asynchronous context manager; leaving it cancels what still runs.

    Args:
        jobs: one for each choice, `job.choice` being its place.
    """

    def __init__(
        self,
        engine: Engine,
        jobs: Sequence[Job],
        *,
        settings: HttpSettings,
        clock: Clock,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._tasks: list[asyncio.Task[None]] = []
        self._arrived = asyncio.Event()
        self._deltas: dict[int, list[Delta]] = {}
        self._ends: dict[int, Finished | ApiError] = {}
        self._waiting_chars = 0
        self._open = len(jobs)
        self._closing = False

    async def __aenter__(self) -> Relay:
        self._tasks = [asyncio.create_task(self._pump(job)) for job in self._jobs]
        for task, job in zip(self._tasks, self._jobs, strict=True):
            task.add_done_callback(partial(self._settle, job.choice))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def tick(self) -> tuple[tuple[int, Outcome], ...]:
        """What came since the last tick: (choice, outcome), ascending; empty once all have ended.

        A choice has at most one `Delta` in it, then at most one `Finished` or `ApiError`.
        """
        if self._open == 0:
            return ()
        await self._arrived.wait()
        await self._clock.sleep(self._until_tick())
        self._arrived.clear()
        deltas, ends = self._deltas, self._ends
        self._deltas, self._ends, self._waiting_chars = {}, {}, 0
        self._open -= len(ends)
        batch: list[tuple[int, Outcome]] = []
        for choice in sorted(deltas.keys() | ends.keys()):
            if choice in deltas:
                batch.append((choice, joined(deltas[choice])))
            if choice in ends:
                batch.append((choice, ends[choice]))
        return tuple(batch)

    def _until_tick(self) -> Seconds:
        interval = self._settings.chunk_interval
        if interval <= 0:
            return Seconds(0.0)
        now = self._clock.monotonic()
        return Seconds(max(0.0, (math.floor(now / interval) + 1) * interval - now))

    async def _pump(self, job: Job) -> None:
        # `Engine` promises that closing the iterator cancels, so it is a generator in all but name.
        stream = cast("AsyncGenerator[Event, None]", self._engine.stream(job))
        with self._metrics.active_stream():
            async with aclosing(stream) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        self._keep(job.choice, event)
                    elif isinstance(event, Failed):
                        raise StreamFailedError(event.code, event.message)
                    else:
                        self._end(job.choice, event)
                        return
        raise StreamFailedError("engine_error", "The engine ended a stream without saying so.")

    def _keep(self, choice: int, delta: Delta) -> None:
        self._waiting_chars += len(delta.text)
        if self._waiting_chars > self._settings.max_waiting_chars:
            raise StreamFailedError("slow_reader", "The reader fell too far behind.")
        self._deltas.setdefault(choice, []).append(delta)
        self._arrived.set()

    def _end(self, choice: int, end: Finished | ApiError) -> None:
        self._ends[choice] = end
        self._arrived.set()

    def _settle(self, choice: int, task: asyncio.Task[None]) -> None:
        """A stream that ends in any way but `Finished` ends in an error; none is left hanging."""
        if self._closing:
            return
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            return
        if isinstance(error, TidegateError):
            wait = error.details.get("retry_after_s")
            after = wait if isinstance(wait, float) else None
            self._log.warning("stream_failed", code=error.code, reason=error.message, choice=choice)
            self._end(choice, of_failure(error.code, after))
        else:
            told = type(error).__name__
            self._log.error("stream_broke", exception=told, at=place_of(error), choice=choice)
            self._end(choice, of_failure("internal_error"))
