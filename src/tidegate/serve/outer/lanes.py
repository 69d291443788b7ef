"""Several inner halves behind one outer half: which lane a job goes to, and what if one breaks.

A *lane* is the link to one inner half, with slots, a budget and a weak model's sequences of its
own. A job goes

1. where its reasoning is kept, if it recalls some: nobody else has it;
2. where its session went before, by the session's id, while that lane has room;
3. to the lane with the most room.

A job that had not joined when its lane broke is given to another, and so is one that was aborted
before its first token, by an inner half that is about to stop or whose engine is broken. Any other
is ended with an error, since a second answer would be other bits under the same seed. A lane that
aborts plain answers one after the other is asked last until one succeeds: it does so quickly, so it
would always seem to have the most room.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Final, Literal, cast

import structlog

from tidegate.clock import Clock
from tidegate.errors import BudgetExceededError, ConfigError, EngineError
from tidegate.serve.jobs import Delta, Event, Failed, Finished, Job
from tidegate.serve.outer.lane_ids import ranked, tag_of
from tidegate.serve.outer.link import LinkEngine
from tidegate.serve.outer.link_settings import LaneLostError
from tidegate.serve.telemetry import Metrics

_log = structlog.get_logger(__name__)

OVERLOADED: Final = "overloaded"
FAILING: Final = "lane_failing"
FAILURES: Final = 3
"""Plain answers in a row that a lane's engine may abort before it is asked last."""

FIRST_REST: Final = 5.0
LONGEST_REST: Final = 60.0
"""Seconds for which a failing lane is asked last; doubled each time it fails again."""

_LOOK_S: Final = 0.5

State = Literal["up", "down", "draining", "drained", "failing"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A lane as people and machines see it; `bits` have crossed it since the half started."""

    name: str
    state: State
    streams: int
    slots: int
    incidents: int
    bits: int
    tokens: int


class Lane:
    """One link, how full it is, and whether its engine answers."""

    def __init__(self, name: str, link: LinkEngine, slots: int, clock: Clock) -> None:
        self.name = name
        self.link = link
        self.slots = slots
        self.tag = tag_of(name)
        self._clock = clock
        self._failed = 0
        self._rest = FIRST_REST
        self._until = 0.0

    @property
    def resting(self) -> bool:
        """Whether it failed too often just now; afterwards one job at a time may try it."""
        early = self._clock.monotonic() < self._until
        return self._failed >= FAILURES and (early or self.link.jobs > 0)

    @property
    def full(self) -> bool:
        """Whether a job would have to wait."""
        return self.link.jobs >= self.slots

    def state(self) -> State:
        """In one word."""
        if not self.link.taking:
            return "drained" if self.link.drained else "draining"
        if not self.link.healthy():
            return "down"
        return "failing" if self._failed >= FAILURES else "up"

    def succeeded(self) -> None:
        """An answer was finished."""
        if self._failed >= FAILURES:
            _log.info("lane_back", lane=self.name)
        self._failed, self._rest = 0, FIRST_REST

    def failed(self) -> bool:
        """The engine aborted a plain answer; whether it is now to be asked last."""
        self._failed += 1
        if self._failed < FAILURES:
            return False
        self._until = self._clock.monotonic() + self._rest
        self._rest = min(LONGEST_REST, 2 * self._rest)
        return True

    def shown(self) -> Shown:
        """What is told of it."""
        totals = self.link.totals
        return Shown(
            self.name,
            self.state(),
            self.link.jobs,
            self.slots,
            totals.incidents,
            totals.bits,
            totals.tokens,
        )


class Lanes:
    """`serve.jobs.Engine` over several links. Use as an async context manager."""

    def __init__(self, lanes: Sequence[Lane], metrics: Metrics) -> None:
        """`lanes` have different names. Raises ConfigError without any, or for equal tags."""
        if not lanes:
            raise ConfigError("An outer half needs at least one lane.")
        self._lanes = {lane.name: lane for lane in lanes}
        if len({lane.tag for lane in lanes}) < len(lanes):
            raise ConfigError("Two lanes' names cannot be told apart; rename one.")
        self._metrics = metrics
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Lanes:
        for lane in self._lanes.values():
            await self._stack.enter_async_context(lane.link)
            self._tell(lane)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ended(self) -> bool:
        """As `LinkEngine.ended`, of the first lane that ends by itself."""
        watches = {
            asyncio.create_task(self._watch(lane), name=name) for name, lane in self._lanes.items()
        }
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            for watch in done:
                watch.result()
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        return True

    def healthy(self) -> bool:
        """Whether a lane is up."""
        return any(lane.link.healthy() for lane in self._lanes.values())

    def shown(self) -> tuple[Shown, ...]:
        """Every lane, by name."""
        return tuple(self._lanes[name].shown() for name in sorted(self._lanes))

    async def drain(self, name: str) -> None:
        """Give a lane no more jobs and return once it has none and its session is closed.

        Raises ConfigError for a lane that there is not.
        """
        lane = self._known(name)
        _log.info("lane_draining", lane=name)
        draining = asyncio.create_task(lane.link.drain())
        await asyncio.sleep(0)
        self._tell(lane)
        await draining
        self._tell(lane)
        _log.info("lane_drained", lane=name)

    def undrain(self, name: str) -> None:
        """Set a lane up again. Raises ConfigError for a lane that there is not."""
        lane = self._known(name)
        lane.link.start()
        self._tell(lane)

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        """See `Engine.stream`.

        Raises:
            BudgetExceededError: at the first iteration; nothing was charged.
        """
        tried: set[str] = set()
        refused: BudgetExceededError | None = None
        failed = Failed(OVERLOADED, "No lane can take the job now.")
        while (lane := self._pick(job, tried)) is not None:
            tried.add(lane.name)
            begun = False
            try:
                async with aclosing(self._on(lane, job)) as events:
                    async for event in events:
                        if isinstance(event, Failed) and not begun and _may_move(job, event):
                            failed = failed if event.code == LaneLostError.code else event
                            break
                        begun = True
                        yield event
                        if not isinstance(event, Delta):
                            return
            except BudgetExceededError as error:
                # A lane's own budget may be spent while another's is not.
                refused = error
        if refused is not None:
            raise refused
        yield failed

    async def _on(self, lane: Lane, job: Job) -> AsyncGenerator[Event, None]:
        """The job's events on one lane, which is judged by how they end."""
        stream = cast("AsyncGenerator[Event, None]", lane.link.stream(job))
        try:
            async with aclosing(stream) as events:
                async for event in events:
                    self._tell(lane)
                    if isinstance(event, Finished):
                        lane.succeeded()
                    elif isinstance(event, Failed):
                        self._judge(lane, job, event)
                    yield event
        finally:
            self._tell(lane)

    def _judge(self, lane: Lane, job: Job, failed: Failed) -> None:
        if failed.code == EngineError.code and _is_plain(job) and lane.failed():
            self._metrics.incident(FAILING, lane=lane.name)
            _log.warning(FAILING, lane=lane.name)

    def _pick(self, job: Job, tried: set[str]) -> Lane | None:
        open_now = {
            name: lane
            for name, lane in self._lanes.items()
            if lane.link.healthy() and name not in tried
        }
        if job.reasoning_ref is not None:
            tag = bytes.fromhex(job.reasoning_ref)[:4]
            holders = [name for name, lane in self._lanes.items() if lane.tag == tag]
            if holders:
                return open_now.get(holders[0])
        rested = {name: lane for name, lane in open_now.items() if not lane.resting} or open_now
        if not rested:
            return None
        if job.session:
            order = ranked(rested, job.principal, job.session)
            return rested[next((name for name in order if not rested[name].full), order[0])]
        return min(rested.values(), key=lambda lane: (lane.link.jobs / lane.slots, lane.name))

    def _known(self, name: str) -> Lane:
        if name not in self._lanes:
            raise ConfigError(f"there is no lane {name!r}; there are {', '.join(self._lanes)}")
        return self._lanes[name]

    def _tell(self, lane: Lane) -> None:
        link = lane.link
        self._metrics.lane(lane.name, streams=link.jobs, slots=lane.slots, taking=link.taking)

    async def _watch(self, lane: Lane) -> None:
        while not await lane.link.ended():
            await asyncio.sleep(_LOOK_S)


def _is_plain(job: Job) -> bool:
    """Whether the job can only fail by the engine's fault: users must not close a lane."""
    return job.candidates == 1 and not job.reasoning and job.reasoning_ref is None


def _may_move(job: Job, failed: Failed) -> bool:
    """Whether a job of which nothing was said may be asked of another lane."""
    aborted = failed.code == EngineError.code and _is_plain(job)
    return aborted or failed.code == LaneLostError.code
