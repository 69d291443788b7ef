"""One session of the link, seen from outside: what is granted, pulled, decoded and released.

Life of a step: `_grant` puts it in the schedule (with joins and cancels); `_pull` asks for bytes
after it, covered by reservations first; `_on_frame` takes the answer; the follower decodes in a
thread; `_on_worked` shares the cost; `_tell` tells the streams, symbol by symbol. With a weak model
that is not exact, a step is told only when a pull sent after its echo was answered (`_release`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final

import msgspec

from tidegate.clock import Clock
from tidegate.errors import TidegateError
from tidegate.ledger.entries import CLOSE_BITS
from tidegate.serve.lockstep import MAX_UNSETTLED, VoiceKey
from tidegate.serve.outer.link_account import Account, Accounts
from tidegate.serve.outer.link_follow import MICRO, Follower, Said, Worked
from tidegate.serve.outer.link_owed import OwedFrames, Pulled
from tidegate.serve.outer.link_settings import (
    LateFrameError,
    LinkClosedError,
    LinkSettings,
    LinkTotals,
)
from tidegate.serve.outer.link_stream import Stream
from tidegate.serve.schedule import Forecast, Work
from tidegate.serve.telemetry import Metrics
from tidegate.units import Bits, bits_of
from tidegate.wire.connection import MAX_OWED, Connection, Frame, Role
from tidegate.wire.messages import MAX_PROMPT, Bye, Echo, Hello, Join, Message, Pull, Resume, Step

_CHUNK: Final = 1 << 16


class Session:
    """From `Hello` to the end, over one connection or, resumed, several."""

    def __init__(
        self,
        hello: Hello,
        follower: Follower,
        accounts: Accounts,
        waiting: deque[Stream],
        settings: LinkSettings,
        *,
        totals: LinkTotals,
        metrics: Metrics,
        clock: Clock,
        thread: Executor,
    ) -> None:
        self.hello = hello
        self.released = 0
        """Steps whose symbols were told to their streams; a resumed session starts there."""
        self._follower = follower
        self._accounts = accounts
        self._waiting = waiting
        self._settings = settings
        self._totals = totals
        self._metrics = metrics
        self._clock = clock
        self._thread = thread
        self._live: dict[int, Stream] = {}
        self._streams: dict[VoiceKey, Stream] = {}
        self._leaving: dict[int, tuple[Stream, ...]] = {}
        self._grants: deque[Step] = deque()
        self._next = 0
        self._attach_state()

    def _attach_state(self) -> None:
        """What begins anew with each connection."""
        self._connection = Connection(Role.OUTER)
        self._attached = False
        self._writer: asyncio.StreamWriter | None = None
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox: list[Step | Pull | Frame] = []
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._idle = True
        self._owed = OwedFrames()
        self._work_ahead = Work(self._settings.policy)
        self._forecast = Forecast(self._settings.policy, self._work_ahead)
        self._later: asyncio.TimerHandle | None = None
        self._decoded = self.released
        self._echoed = self.released - 1
        self._unreleased: deque[tuple[int, tuple[Said, ...]]] = deque()
        self._said: list[Said] = []
        self._padding = 0

    @property
    def busy(self) -> bool:
        """Whether a stream is on the link."""
        return bool(self._streams)

    async def attach(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, resume: Resume | None
    ) -> None:
        """Run the session over a connection until it breaks, which is always an exception.

        Raises:
            LinkError: of what the inner half did, or did not do.
            BudgetExceededError: a pull could not be covered.
            OSError: of the transport.
        """
        self._attach_state()
        self._attached = True
        self._writer = writer
        self._send(self.hello)
        if resume is not None:
            self._send(resume)
            self._follower.rewind(resume)
            for stream in self._streams.values():
                stream.rewind()
            for step in self._grants:
                self._schedule(msgspec.structs.replace(step, settled=resume.number))
        tasks = [
            asyncio.create_task(self._read(reader)),
            asyncio.create_task(self._decode()),
            *([asyncio.create_task(self._tick())] if self._settings.pace is not None else []),
        ]
        self.nudge()
        try:
            await asyncio.wait([self._broken, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for ended in (*tasks, self._broken):
                if ended.done():
                    await ended
        finally:
            self._stop()
            for task in (tasks[0], *tasks[2:]):
                task.cancel()
            # The decoding thread cannot be interrupted, so it is waited for.
            await asyncio.gather(*tasks, return_exceptions=True)
            if not self._broken.done():
                self._broken.cancel()

    def say_bye(self) -> None:
        """Tell the inner half that nothing more will be pulled."""
        if self._writer is not None and not self._stopping.is_set():
            self._send(Bye())
            self._stopping.set()

    def nudge(self) -> None:
        """Something changed: grant and pull what can be."""
        if self._stopping.is_set() or self._writer is None or self._broken.done():
            return
        try:
            self._pump()
        except (TidegateError, OSError) as error:
            self._broken.set_exception(error)

    def lost(self, *, closed: bool) -> None:
        """Charge what may have crossed and, if the inner half ended it (`closed`), that it did."""
        excess, payers = self._owed.end(), self._payers()
        self._accounts.lose(payers)
        if closed and self._attached:
            self._accounts.incident(Bits(CLOSE_BITS + excess), payers, "link_closed")
        self._attached = False

    def fail(self, code: str, message: str) -> None:
        """End every stream of the session."""
        streams = tuple(self._streams.values())
        self._streams.clear()
        self._live.clear()
        self._leaving.clear()
        for stream in streams:
            stream.fail(code, message)
        self._follower.forget()
        for stream in streams:
            self._accounts.close(stream.account)

    def _stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._owed.stop()

    def _payers(self) -> list[Account]:
        return [stream.account for stream in self._streams.values()]

    def _pump(self) -> None:
        while True:
            granted = self._may_grant()
            if granted:
                self._grant()
            pulled = False
            if self._settings.pace is None and self._next:
                quiet = self._idle and not (granted or self._owed)
                held = self._later is not None and not self._forecast.short
                unknown = self._decoded < self._next or bool(self._unreleased)
                stalled = self.busy and unknown and quiet and not held
                while len(self._owed) < MAX_OWED // 2:
                    size = self._forecast.next_pull(stalled=stalled and not pulled)
                    if size is None:
                        break
                    self._pull(size)
                    pulled = True
            if not granted and not pulled:
                return

    def _may_grant(self) -> bool:
        far = self._next - self._decoded >= self._settings.policy.window
        if far or self._next - self.released >= MAX_UNSETTLED // 2:
            return False
        if any(stream.cancelled for stream in self._live.values()):
            return True
        going = any(not stream.spoken for stream in self._live.values())
        if not (going or (self._waiting and len(self._live) < self._settings.slots)):
            return False
        if self._settings.pace is not None:
            return self._forecast.bits < 16 * self._settings.pace_bytes
        if (after := self._owed.oldest_after()) is not None:
            return self._next - 1 - after < self._work_ahead.ahead
        wait = self._work_ahead.wait(self._clock.monotonic())
        if wait and self._later is None:
            self._later = asyncio.get_running_loop().call_later(wait, self._resume_granting)
        return not wait

    def _resume_granting(self) -> None:
        self._later = None
        self.nudge()

    def _grant(self) -> None:
        leaving = tuple(stream for stream in self._live.values() if stream.cancelled)
        cancels = tuple(sorted(stream.join.slot for stream in leaving))
        for slot in cancels:
            del self._live[slot]
        self._leaving[self._next] = leaving
        joins: list[Join] = []
        free = (slot for slot in range(self._settings.slots) if slot not in self._live)
        prompts, tracks = 0, sum(stream.join.candidates for stream in self._live.values())
        wanted = self._work_ahead.joining([len(stream.join.prompt) for stream in self._waiting])
        while len(joins) < wanted and prompts < MAX_PROMPT:
            tracks += self._waiting[0].join.candidates
            if self._live and tracks > self._settings.tracks:
                break
            if (spare := next(free, None)) is None:
                break
            stream = self._waiting.popleft()
            self._streams[stream.seat(self._next, spare)] = self._live[spare] = stream
            prompts += len(stream.join.prompt)
            joins.append(stream.join)
        step = Step(self._next, self.released, cancels, tuple(joins))
        self._next += 1
        if self.hello.echo:
            self._grants.append(step)
        self._schedule(step)

    def _schedule(self, step: Step) -> None:
        self._send(step)
        self._hand_over(step)
        speaking, firsts = 0, 0
        for stream in self._live.values():
            if not (stream.waiting or stream.spoken):
                speaking += 1
                firsts += not stream.granted
                stream.granted += 1
        self._forecast.granted(step.number, speaking=speaking, firsts=firsts)
        prompts = sum(len(join.prompt) for join in step.joins)
        self._work_ahead.granted(step.number, self._clock.monotonic(), prompts=prompts)

    def _pull(self, size: int) -> None:
        self._accounts.cover(bits_of(size), self._payers())
        timer = asyncio.get_running_loop().call_later(self._settings.late_after, self._late)
        self._owed.add(Pulled(size, self._next - 1, self._echoed, timer))
        pull = Pull(size)
        self._send(pull)
        self._hand_over(pull)
        self._forecast.pulled(size)

    def _late(self) -> None:
        if not self._broken.done():
            self._broken.set_exception(LateFrameError("A frame came too late."))

    def _hand_over(self, event: Step | Pull | Frame) -> None:
        self._inbox.append(event)
        self._idle = False
        self._wake.set()

    def _send(self, message: Message) -> None:
        if self._writer is not None:
            self._writer.write(self._connection.send(message))

    async def _tick(self) -> None:
        while self._settings.pace is not None and not self._stopping.is_set():
            if len(self._owed) < MAX_OWED // 2:
                self._pull(self._settings.pace_bytes)
            await self._clock.sleep(self._settings.pace)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                data = await reader.read(_CHUNK)
            except ConnectionError:
                data = b""
            if not data:
                raise LinkClosedError("The inner half closed the link.")
            self._owed.read(len(data))
            self._connection.receive(data)
            while isinstance(frame := self._connection.next_event(), Frame):
                self._on_frame(frame)
            self.nudge()

    def _on_frame(self, frame: Frame) -> None:
        owed = self._owed.take()
        self._accounts.arrive(bits_of(owed.size))
        self._totals.bits += 8 * owed.size
        self._totals.frames += 1
        self._metrics.frame(self._settings.edge, "data" if any(frame.data) else "dummy")
        self._hand_over(frame)
        last, now = self._next - 1, self._clock.monotonic()
        on = last > owed.after or self._may_grant()
        self._work_ahead.answered(owed.after, last, now, goes_on=on)
        if self.hello.echo:
            self._release(owed.echoed)

    async def _decode(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            await self._wake.wait()
            self._wake.clear()
            self._idle = False
            while not (self._stopping.is_set() or self._idle):
                events, self._inbox = self._inbox, []
                work = partial(self._follower.work, events, settled=self.released)
                worked = await loop.run_in_executor(self._thread, work)
                if self._stopping.is_set():
                    return
                self._on_worked(worked)
                self._idle = worked.done is None and not self._inbox
                self.nudge()

    def _on_worked(self, worked: Worked) -> None:
        for key, is_token, cost in worked.costs:
            if key in self._streams:
                self._accounts.cost(self._streams[key].account, cost)
            self._totals.ideal += cost / MICRO
            if is_token:
                self._totals.tokens += 1
                self._forecast.learned(cost / MICRO)
        self._totals.padding += worked.padding - self._padding
        self._metrics.padded(self._settings.edge, Bits(worked.padding - self._padding))
        self._padding = worked.padding
        if worked.costs:
            self._accounts.share(self._payers())
            for stream in self._streams.values():
                stream.renew(self._accounts)
        self._forecast.came(worked.step, sum(said.token is not None for said in worked.said))
        if self.hello.echo:
            self._said.extend(worked.said)
        else:
            self._tell(worked.step, worked.said)
        done = worked.done
        if done is None:
            return
        self._decoded = done.number + 1
        self._totals.steps += 1
        self._forecast.decoded(done.number, worked.pulls, worked.unsent)
        self._unreleased.append((done.number, tuple(self._said)))
        self._said.clear()
        if not self.hello.echo:
            self._release(done.number)
            return
        self._send(Echo(done.number, done.digest))
        self._echoed = done.number

    def _tell(self, step: int, symbols: Sequence[Said]) -> None:
        """Tell streams what they said at `step`, and end those that ended."""
        if any(said.ended for said in symbols):
            self._accounts.share(self._payers())
        for said in symbols:
            if (stream := self._streams.get(said.key)) is None:
                continue
            stream.tell(said, self.hello.link, step)
            if said.ended:
                del self._streams[said.key]
                if self._live.get(said.key.slot) is stream:
                    del self._live[said.key.slot]
                stream.finish(said, self._close(stream))

    def _release(self, up_to: int) -> None:
        while self._unreleased and self._unreleased[0][0] <= up_to:
            number, symbols = self._unreleased.popleft()
            self._tell(number, symbols)
            for stream in self._leaving.pop(number, ()):
                if stream.key is not None and self._streams.pop(stream.key, None) is not None:
                    self._close(stream)
            self.released = number + 1
            while self._grants and self._grants[0].number < self.released:
                self._grants.popleft()

    def _close(self, stream: Stream) -> Bits:
        bits = self._accounts.close(stream.account)
        self._metrics.uploaded(self._settings.edge, stream.account.principal, bits)
        return bits
