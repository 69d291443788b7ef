"""The inner half's socket: one outer half at a time on a lane, and nothing leaves but frames.

1. A connection must greet with a lane's secret in time, and the newest of a lane is the live one.
2. Messages are read and checked as they come and queued; the queue is bounded.
3. One worker takes them in order: steps run in a thread of their own, a pull is answered when every
   step granted before it is done.
4. Before a frame leaves, its bits are taken from this half's own allowance, which fails closed.
5. Anything wrong is logged here and closes the connection. The outer half is told nothing else.

Where there are several outer halves each has a lane: an engine, a secret and an allowance of its
own, over one strong model.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import structlog

from tidegate.errors import BudgetExceededError, EngineDownError, LinkError, TidegateError
from tidegate.serve.inner.engine import InnerEngine
from tidegate.units import Bits, Seconds, bits_of
from tidegate.wire.connection import Connection, Frame, Role
from tidegate.wire.messages import Bye, Echo, Hello, Message, Pull, Resume, Step

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_CHUNK = 1 << 16
_QUEUE = 512
"""Messages read ahead of the worker; beyond that the socket is left unread."""

GREETING_TIMEOUT = Seconds(10.0)

SETTLING = Seconds(2.0)
"""After this long without a step or an echo the outer half has all that it wanted."""

UNPULLED = Seconds(10.0)
"""The same, while something that was said has not been pulled. It may be known outside already: the
last bits of a segment can follow from those before."""


class Allowance(Protocol):
    """This half's own hard cap on what leaves, whatever the outer half pulls."""

    def spend(self, bits: Bits) -> None:
        """Take `bits` for good, durably, before they leave. Raises BudgetExceededError."""
        ...


class LifetimeAllowance:
    """A cap in memory, for one run of the process."""

    def __init__(self, cap: Bits) -> None:
        self.cap = cap
        self.spent = Bits(0)

    def spend(self, bits: Bits) -> None:
        if self.spent + bits > self.cap:
            raise BudgetExceededError("The inner half's own cap is reached.", cap=self.cap)
        self.spent = Bits(self.spent + bits)


class InnerServer:
    """Serves one engine. `handle` is the callback for asyncio's `start_server` functions."""

    def __init__(
        self,
        engine: InnerEngine,
        secret: bytes,
        allowance: Allowance,
        *,
        lane: str = "",
        on_down: Callable[[], None] = lambda: None,
        greeting_timeout: Seconds = GREETING_TIMEOUT,
    ) -> None:
        """`secret` (16 to 128 bytes) is shared with the outer half; `lane` names that in logs.
        `on_down` hears that the strong model's engine is gone as a whole."""
        self.lane = lane
        self.on_down = on_down
        self._engine = engine
        self._secret = secret
        self._allowance = allowance
        self._greeting_timeout = greeting_timeout
        self._live = asyncio.Lock()
        self._moved = self._heard = -SETTLING
        self._newest: asyncio.Event | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inner-engine")

    async def listen_unix(self, path: str) -> asyncio.Server:
        """Listen on a unix socket."""
        return await asyncio.start_unix_server(self.handle, path)

    async def listen_tcp(self, host: str, port: int) -> asyncio.Server:
        """Listen on a TCP port of a private network."""
        return await asyncio.start_server(self.handle, host, port)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        await greet((self,), reader, writer, greeting_timeout=self._greeting_timeout)

    @property
    def busy(self) -> bool:
        """Whether ending now would cut streams off: ones that go on, or whose ends are not known
        outside yet, which takes more pulls or echoes. Pulls alone may go on for ever."""
        if not self._live.locked():
            return False
        now = asyncio.get_running_loop().time()
        moving = now - self._moved < SETTLING
        owing = not self._engine.said_all and now - self._heard < UNPULLED
        return self._engine.voices > 0 or moving or owing

    def leave(self) -> None:
        """Let streams end and abort new ones at their first word, so that others are asked."""
        self._engine.leave()

    def knows(self, secret: bytes) -> bool:
        """Whether it is this lane's secret."""
        return hmac.compare_digest(secret, self._secret)

    async def serve(self, session: Session, writer: asyncio.StreamWriter, hello: Hello) -> None:
        """Serve a connection that greeted with this lane's secret.

        Raises TidegateError, OSError, EOFError or TimeoutError: whatever ended it but a goodbye.
        """
        # One that reconnects may be here before the end of its last connection is: the newest
        # wins, so that a peer that fell silent does not hold the link.
        replaced, older = asyncio.Event(), self._newest
        self._newest = replaced
        if older is not None:
            older.set()
        async with asyncio.timeout(self._greeting_timeout):
            await self._live.acquire()
        try:
            await self._serve(session, writer, hello, replaced)
        finally:
            self._live.release()

    async def forget(self) -> None:
        """Once the engine's thread has nothing to do, let no session be resumed."""
        await self._run(self._engine.forget)

    def close(self) -> None:
        """Let the engine's thread end."""
        self._thread.shutdown(wait=False)

    async def _serve(
        self,
        session: Session,
        writer: asyncio.StreamWriter,
        hello: Hello,
        replaced: asyncio.Event,
    ) -> None:
        self._engine.check(hello)
        queue: asyncio.Queue[Message] = asyncio.Queue(_QUEUE)
        reading = asyncio.create_task(session.read_into(queue))
        working = asyncio.create_task(self._work(session, writer, hello, queue))
        leaving = asyncio.create_task(replaced.wait())
        tasks = (reading, working, leaving)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                raise LinkError("A newer connection took over.")
            if reading.done():
                # Raises if it ended with anything but a goodbye; what came before that is done.
                reading.result()
            await working
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(
        self,
        session: Session,
        writer: asyncio.StreamWriter,
        hello: Hello,
        queue: asyncio.Queue[Message],
    ) -> None:
        message = await queue.get()
        if isinstance(message, Resume):
            resume = message
            await self._run(lambda: self._engine.resume(hello, resume))
            message = await queue.get()
        else:
            await self._run(lambda: self._engine.begin(hello))
        while not isinstance(message, Bye):
            await self._act(session, writer, message)
            message = await queue.get()

    async def _act(self, session: Session, writer: asyncio.StreamWriter, message: Message) -> None:
        self._heard = asyncio.get_running_loop().time()
        if not isinstance(message, Pull):
            self._moved = self._heard
        match message:
            case Step():
                await self._run(lambda: self._engine.step(message))
            case Echo():
                await self._run(lambda: self._engine.echo(message))
            case Pull(size=size):
                self._allowance.spend(bits_of(size))
                frame = await self._run(lambda: self._engine.frame(size))
                writer.write(session.connection.send(Frame(frame)))
                await writer.drain()

    async def _run(self, work: Callable[[], _T]) -> _T:
        """Run `work` in the engine's thread and wait for its end even when we are cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # Where nobody is left to hear of an error, the connection is closed already.
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return await asyncio.shield(future)


async def greet(
    servers: Sequence[InnerServer],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    greeting_timeout: Seconds = GREETING_TIMEOUT,
) -> None:
    """Take a connection's greeting, and let the lane whose secret it holds serve it to its end."""
    session, lane = Session(reader), ""
    try:
        async with asyncio.timeout(greeting_timeout):
            hello = await session.next()
        secret = hello.secret if isinstance(hello, Hello) else b""
        # All are asked, so that the time says nothing about which secret was close.
        known = [server for server in servers if server.knows(secret)]
        if not (known and isinstance(hello, Hello)):
            raise LinkError("The greeting is not ours.")
        lane = known[0].lane
        await known[0].serve(session, writer, hello)
    except EngineDownError as error:
        _log.error("engine_down", lane=lane, **error.diagnostics())
        known[0].on_down()
    except TidegateError as error:
        _log.warning("link_closed", lane=lane, **error.diagnostics())
    except (OSError, EOFError, TimeoutError) as error:
        _log.info("link_lost", lane=lane, error=type(error).__name__)
    finally:
        writer.close()


class Session:
    """The bytes of one connection as messages."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.connection = Connection(Role.INNER)
        self._reader = reader

    async def next(self) -> Message:
        """The next message. Raises EOFError at the end, ProtocolViolationError on garbage."""
        while (event := self.connection.next_event()) is None:
            data = await self._reader.read(_CHUNK)
            if not data:
                raise EOFError
            self.connection.receive(data)
        if isinstance(event, Frame):
            raise LinkError("A frame came from the outer half.")
        return event

    async def read_into(self, queue: asyncio.Queue[Message]) -> None:
        """Queue messages up to a goodbye. Raises as `next`."""
        message: Message | None = None
        while not isinstance(message, Bye):
            message = await self.next()
            await queue.put(message)
