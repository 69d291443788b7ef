"""The outer end of the link as an `Engine`: jobs in, events out.

A supervisor keeps one session alive. A session that breaks ends its streams with an error, is
recorded as an incident, and a new one begins after a pause; where the weak model is not exact, a
session whose tables disagreed is resumed instead and no stream notices.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from tidegate.clock import Clock
from tidegate.errors import LinkError, NonCanonicalError, TidegateError
from tidegate.models.port import Model, Tokenizer
from tidegate.sampling.finish import Limits, Rules
from tidegate.serve.jobs import Event, Failed, Job, Seeds, seed_of
from tidegate.serve.lockstep import CODER
from tidegate.serve.outer.lane_ids import mint
from tidegate.serve.outer.link_account import Accounts, Purse, worst_case
from tidegate.serve.outer.link_follow import Follower
from tidegate.serve.outer.link_session import Session
from tidegate.serve.outer.link_settings import (
    LaneLostError,
    LinkClosedError,
    LinkSettings,
    LinkTotals,
)
from tidegate.serve.outer.link_stream import InvalidJobError, Stream, make_join
from tidegate.serve.telemetry import Metrics
from tidegate.units import Seconds
from tidegate.wire.messages import PROTOCOL_VERSION, Hello, Resume

_log = structlog.get_logger(__name__)

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens a connection to the inner half. Raises OSError."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_LONGEST_EXACT = 1 << 16
_LOOK = Seconds(0.02)


class LinkEngine:
    """`serve.jobs.Engine` over the link. Use as an async context manager."""

    def __init__(
        self,
        connect: Connect,
        secret: bytes,
        weak: Model,
        tokenizer: Tokenizer,
        seeds: Seeds,
        purse: Purse,
        clock: Clock,
        metrics: Metrics,
        settings: LinkSettings | None = None,
    ) -> None:
        """`secret` is shared with the inner half; `weak` and `tokenizer` equal its own."""
        self._connect = connect
        self._secret = secret
        self._weak = weak
        self._tokenizer = tokenizer
        self._seeds = seeds
        self._clock = clock
        self._metrics = metrics
        self._settings = settings or LinkSettings()
        self._accounts = Accounts(purse)
        self._waiting: deque[Stream] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="link-decoder")
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = False
        self._taking = True
        self.jobs = 0
        """Jobs that wait for the link or are on it."""
        self.totals = LinkTotals()

    async def __aenter__(self) -> LinkEngine:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Take jobs, over a link that is set up now; also after `drain`."""
        self._taking = True
        if self._task is None:
            self._task = asyncio.create_task(self._supervise())

    async def drain(self) -> None:
        """Take no more jobs; once those there are have ended, end the session with a goodbye."""
        self._taking = False
        while self.jobs or (self._session is not None and self._session.busy):
            if self._taking:
                return
            await self._clock.sleep(_LOOK)
        await self._hang_up()

    async def close(self) -> None:
        """End every stream with an error and the session with a goodbye."""
        await self._hang_up()
        self._thread.shutdown(wait=False)

    async def _hang_up(self) -> None:
        if self._task is None:
            return
        if self._session is not None:
            self._session.say_bye()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def ended(self) -> bool:
        """Wait until the link runs no more: False if somebody ended it, else it cannot mend itself
        and what broke it is raised."""
        task = self._task
        if task is None:
            return False
        await asyncio.wait({task})
        if task.cancelled():
            return False
        task.result()
        return True

    @property
    def taking(self) -> bool:
        """Whether jobs are wanted: it does not drain and is not drained."""
        return self._taking

    @property
    def drained(self) -> bool:
        """Whether the link is down because it was drained."""
        return self._task is None

    def healthy(self) -> bool:
        """Whether the link is connected, in step, and takes jobs."""
        return self._up and self._taking

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        """Answer `job`; see `Engine.stream`.

        Raises:
            BudgetExceededError: at the first iteration; nothing was charged.
        """
        reasoning = mint(self._settings.lane) if job.reasoning else None
        seed = seed_of(job, self._seeds)
        try:
            join = make_join(job, seed, reasoning, self._weak.vocab_size)
        except InvalidJobError as error:
            yield Failed(error.code, error.message)
            return
        if self._task is None or self._task.done():
            yield Failed(LinkError.code, "The link is not running.")
            return
        bits = worst_case(job, self._settings.max_reasoning)
        stream = Stream(join, self._accounts.open(job.principal, bits))
        self._waiting.append(stream)
        self.jobs += 1
        self._nudge()
        try:
            async for event in stream.events():
                yield event
        finally:
            self.jobs -= 1
            self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        """The reader is gone."""
        if stream in self._waiting:
            self._waiting.remove(stream)
            self._accounts.close(stream.account)
        elif not stream.over:
            stream.cancelled = True
            self._nudge()

    def _nudge(self) -> None:
        if self._session is not None:
            self._session.nudge()

    async def _supervise(self) -> None:
        failures = 0
        try:
            while True:
                released = await self._run_session()
                failures = 0 if released else failures + 1
                if self._settings.lane:
                    self._end_waiting("The lane broke before the job joined.", LaneLostError.code)
                if failures >= self._settings.max_failures:
                    self._end_waiting("The model cannot be reached.")
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**failures)
                await self._clock.sleep(Seconds(pause))
        finally:
            self._end_waiting("The link is being shut down.")

    async def _run_session(self) -> int:
        """Run a session until it breaks; returns how many steps it released."""
        session = self._session = self._new_session()
        code, closed = LinkError.code, False
        try:
            await self._serve(session)
        except (TidegateError, OSError) as error:
            code = error.code if isinstance(error, TidegateError) else code
            closed = isinstance(error, LinkError | OSError)
            self._incident(code)
        finally:
            # Whatever ended it, no stream is left hanging and no bit uncharged.
            self._set_up(False)
            try:
                session.lost(closed=closed)
            finally:
                session.fail(code, "The link to the model broke and is being set up again.")
        return session.released

    async def _serve(self, session: Session) -> None:
        """Run one session to its end, over several connections if it is resumed.

        A session with echoes that was closed, or whose frames did not replay, may just have had two
        different tables. The steps sent again under the exact fallback double each time the tables
        differ again as soon as they are used.
        """
        resume: Resume | None = None
        tries = 0
        while True:
            reader, writer = await self._connect()
            self._set_up(True)
            before = session.released
            try:
                await session.attach(reader, writer, resume)
            except (LinkClosedError, NonCanonicalError) as error:
                tries = 1 if session.released > before else tries + 1
                if not (session.hello.echo and session.busy) or tries > self._settings.max_resumes:
                    raise
                self._incident(error.code)
                session.lost(closed=True)
            finally:
                writer.close()
            self.totals.resumes += 1
            self._metrics.resent(self._settings.edge)
            at_once = resume is not None and session.released <= resume.number + resume.exact_steps
            exact_steps = 2 * resume.exact_steps if resume is not None and at_once else 1
            resume = Resume(number=session.released, exact_steps=min(exact_steps, _LONGEST_EXACT))

    def _new_session(self) -> Session:
        eos_ids = self._tokenizer.eos_ids
        hello = Hello(
            version=PROTOCOL_VERSION,
            link=secrets.token_bytes(16),
            secret=self._secret,
            tokenizer=self._tokenizer.fingerprint,
            weak=self._weak.fingerprint,
            coder=CODER,
            eos=tuple(sorted(eos_ids)),
            echo=not self._weak.exact,
        )
        rules = Rules(Limits(max_tokens=1), eos_ids, self._tokenizer.decode)
        follower = Follower(self._weak, rules, slots=self._settings.slots, echo=hello.echo)
        return Session(
            hello,
            follower,
            self._accounts,
            self._waiting,
            self._settings,
            totals=self.totals,
            metrics=self._metrics,
            clock=self._clock,
            thread=self._thread,
        )

    def _end_waiting(self, message: str, code: str = LinkError.code) -> None:
        while self._waiting:
            stream = self._waiting.popleft()
            self._accounts.close(stream.account)
            stream.fail(code, message)

    def _incident(self, code: str) -> None:
        self.totals.incidents += 1
        self._metrics.incident(code, lane=self._settings.lane)
        _log.warning("link_incident", code=code, edge=self._settings.edge, lane=self._settings.lane)

    def _set_up(self, up: bool) -> None:
        if up and not self._up:
            _log.info("link_up", edge=self._settings.edge, lane=self._settings.lane)
        self._up = up
        self._metrics.link(self._settings.edge, up=up, lane=self._settings.lane)
