"""Many answers, one writer: their entries are written in groups, each with one sync of the disk.

While a group is being written the next one gathers, so the cost of a sync is shared by all answers
that run and none waits for more than two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, TypeVar

import structlog

from tidegate.clock import Clock
from tidegate.errors import RecordError
from tidegate.record.entries import Begin, Does, End, Gap, Prefill, Reason, Tokens
from tidegate.units import Seconds
from tidegate.verify.record_writer import Abandon, Writer

_log = structlog.get_logger(__name__)

OnFailure = Literal["stop", "go_on"]
"""What happens to answers that cannot be recorded: they end with an error, or they leave all the
same and the record says later how many did."""

REOPEN_AFTER: Final = Seconds(1.0)
"""At most so often is a record opened again after it failed."""

SIGN_AFTER: Final = Seconds(10.0)

OpenWriter = Callable[[Sequence[Does]], Writer]
"""Opens a writer, which writes these entries besides its own. Blocking. Raises RecordError."""

_T = TypeVar("_T")
_Command = Does | Abandon
_Waiting = tuple[_Command, "asyncio.Future[int]"]


class GroupCommit:
    """The record as the outer half sees it. Use as an async context manager.

    A write that fails ends every answer in the record (the next writer marks them `cut`), because
    nobody knows what of the group was stored; the record is opened again when it is next needed.
    """

    def __init__(
        self,
        open_writer: OpenWriter,
        clock: Clock,
        *,
        on_failure: OnFailure = "stop",
        sign_after: Seconds = SIGN_AFTER,
        incident: Callable[[str], None] = lambda _code: None,
    ) -> None:
        """Entries are under a checkpoint after `sign_after` at the latest; `incident` hears the
        error code each time that writing fails."""
        self._open_writer = open_writer
        self._clock = clock
        self._go_on = on_failure == "go_on"
        self._sign_after = sign_after
        self._incident = incident
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._writer: Writer | None = None
        self._running: set[int] = set()
        self._waiting: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._signing: asyncio.TimerHandle | None = None
        self._closed = False
        self._failed_at: float | None = None
        self._lost = Gap(0, 0)

    async def __aenter__(self) -> GroupCommit:
        """Raises RecordError: a half that cannot record does not start, whatever it is told."""
        self._writer = await self._in_thread(lambda: self._open_writer(()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for response in tuple(self._running):
            self.leave(response, Reason.CUT)
        while self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
            # What waited for this write may have something to say yet.
            await asyncio.sleep(0)
        self._closed = True
        if self._signing is not None:
            self._signing.cancel()
        await self._sign()
        self._thread.shutdown(wait=True)

    async def begin(self, begin: Begin) -> int | None:
        """The number that names the answer, once its beginning is durable.

        None where it cannot be recorded and is to leave all the same.

        Raises:
            RecordError: it cannot be recorded; it must not go inwards.
        """
        future = self._put(begin)
        try:
            number = await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._abandon)
            raise
        except RecordError:
            if not self._go_on:
                raise
            self._lose(responses=1)
            return None
        self._running.add(number)
        return number

    async def say(self, response: int | None, does: Sequence[Prefill | Tokens | End]) -> None:
        """Return once `does`, in order and all of one answer, are durable.

        Raises:
            RecordError: they may not be; nothing of them must leave.
        """
        try:
            if response not in self._running:
                raise RecordError("The record lost this answer when a write failed.")
            await asyncio.gather(*(self._put(one) for one in does))
        except RecordError:
            if not self._go_on:
                raise
            self._lose(tokens=sum(len(one.ids) for one in does if isinstance(one, Tokens)))
        if response is not None and any(isinstance(one, End) for one in does):
            self._running.discard(response)

    def leave(self, response: int | None, reason: Reason, code: str = "") -> None:
        """An answer was abandoned: record it when possible, wait for nothing."""
        if response in self._running:
            self._running.discard(response)
            self._put(Abandon(response, reason, code)).add_done_callback(_ignore)

    def _abandon(self, begun: asyncio.Future[int]) -> None:
        if not begun.cancelled() and begun.exception() is None:
            self._running.add(begun.result())
            self.leave(begun.result(), Reason.CANCELLED)

    def _lose(self, responses: int = 0, tokens: int = 0) -> None:
        self._lost = Gap(self._lost.responses + responses, self._lost.tokens + tokens)

    def _put(self, does: _Command) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(RecordError("The record is closed."))
            return future
        self._waiting.append((does, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return future

    async def _flush(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._write_group(group)
        finally:
            self._flushing = None
        if self._writer is not None and self._writer.unsigned:
            self._sign_later()

    async def _write_group(self, group: list[_Waiting]) -> None:
        done: list[int | RecordError] = [RecordError("The record's writer stopped.")] * len(group)
        try:
            writer = self._writer or await self._reopen()
            done = await self._in_thread(lambda: writer.append([does for does, _ in group]))
        except RecordError as error:
            self._fail(error)
            done = [error] * len(group)
        finally:
            for (_, future), one in zip(group, done, strict=True):
                if future.done():
                    continue
                if isinstance(one, RecordError):
                    future.set_exception(one)
                else:
                    future.set_result(one)

    async def _reopen(self) -> Writer:
        now = self._clock.monotonic()
        if self._failed_at is not None and now - self._failed_at < REOPEN_AFTER:
            raise RecordError("The record cannot be written.")
        self._failed_at = now
        lost, self._lost = self._lost, Gap(0, 0)
        more = [lost] if lost != self._lost else []
        try:
            self._writer = await self._in_thread(lambda: self._open_writer(more))
        except RecordError:
            self._lose(lost.responses, lost.tokens)
            raise
        _log.warning("record_reopened", entries=self._writer.size)
        return self._writer

    def _fail(self, error: RecordError) -> None:
        if self._writer is not None:
            _log.error("record_failed", code=error.code, reason=error.message)
            self._incident("record_failed")
            self._failed_at = self._clock.monotonic()
        self._writer = None
        self._running.clear()

    def _sign_later(self) -> None:
        if self._signing is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._signing = loop.call_later(self._sign_after, self._sign_now)

    def _sign_now(self) -> None:
        self._signing = None
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._sign_and_flush())
        else:
            self._sign_later()

    async def _sign_and_flush(self) -> None:
        await self._sign()
        await self._flush()

    async def _sign(self) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            await self._in_thread(writer.sign)
        except RecordError as error:
            self._fail(error)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _ignore(future: asyncio.Future[int]) -> None:
    if not future.cancelled():
        future.exception()
