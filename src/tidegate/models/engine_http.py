"""Server-sent events of many streams at once, for threads that wait: what HTTP adapters share.

One thread runs an event loop and every connection; a stream's events go through a queue of its own
to whoever asks for them. No proxies, no redirects, and bounds on waiting and on a line's length.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import re
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, TypeVar

import httpx2
import msgspec

from tidegate.models.engine_port import EngineLostError, EngineRefusedError
from tidegate.units import Seconds

_T = TypeVar("_T")

PATIENCE: Final = Seconds(120.0)
"""For the next event. A prompt that waits for a place in a busy engine's batch takes this long."""

_CONNECT_S: Final = 10.0
_MOST_LINE: Final = 1 << 20
_MOST_BODY: Final = 1 << 28
_NAMED: Final = re.compile(r"tidegate refuses \w+: [^\"(\\\\]{1,300}")
_DONE: Final = b"[DONE]"
REFUSALS: Final = frozenset(range(400, 500)) - {408, 425, 429}
"""Statuses that say something about the request, and not only about the moment."""


class Http:
    """Connections to some servers. Methods may be called from any thread but its own."""

    def __init__(self, *, key: str | None = None, patience: Seconds = PATIENCE) -> None:
        """`key` is sent as a bearer token."""
        self.patience = patience
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(patience, connect=_CONNECT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
            follow_redirects=False,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="engine-http", daemon=True
        )
        self._thread.start()

    def get(self, url: str, kind: type[_T]) -> _T:
        """A JSON object. Raises EngineLostError or EngineRefusedError."""
        return self.wait(self._asked("GET", url, None, kind))

    def post(self, url: str, body: object, kind: type[_T]) -> _T:
        """A JSON object in answer to another. Raises EngineLostError or EngineRefusedError."""
        return self.wait(self._asked("POST", url, body, kind))

    def events(self, url: str, body: object) -> Events:
        """Begin a stream; errors are raised where its events are taken."""
        stream = Events(self.patience)
        stream.task = self._spawn(self._streamed(url, body, stream))
        return stream

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` in the loop and wait for it."""
        return self._spawn(work).result()

    def close(self) -> None:
        """End every stream and the thread."""
        if self._loop.is_closed():
            return
        self.wait(self._ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _ended(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _asked(self, method: str, url: str, body: object, kind: type[_T]) -> _T:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            async with self._client.stream(method, url, content=content, headers=headers) as answer:
                await _require_ok(answer, url)
                raw = await _body(answer, _MOST_BODY)
        except httpx2.HTTPError as error:
            raise _lost(url, error) from error
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise EngineRefusedError(f"{url} answers with something else: {error}") from error

    async def _streamed(self, url: str, body: object, stream: Events) -> None:
        try:
            async with self._client.stream(
                "POST",
                url,
                content=msgspec.json.encode(body),
                headers={"content-type": "application/json"},
            ) as answer:
                await _require_ok(answer, url)
                async for data in _data(answer):
                    if data == _DONE:
                        break
                    stream.inbox.put(data)
            stream.inbox.put(None)
        except httpx2.HTTPError as error:
            stream.inbox.put(_lost(url, error))
        except (EngineLostError, EngineRefusedError) as error:
            stream.inbox.put(error)


class Events:
    """One stream of events."""

    def __init__(self, patience: Seconds) -> None:
        self.inbox: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self.task: concurrent.futures.Future[None] | None = None
        self._patience = patience

    def next(self) -> bytes | None:
        """The data of the next event, None after the last.

        Raises EngineLostError where none comes in time or the connection breaks, EngineRefusedError
        where the server will not serve this.
        """
        try:
            item = self.inbox.get(timeout=self._patience)
        except queue.Empty:
            raise EngineLostError(f"the engine said nothing for {self._patience:g} s") from None
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Hang up, from which an engine knows that it may stop."""
        if self.task is not None:
            self.task.cancel()


async def _require_ok(answer: httpx2.Response, url: str) -> None:
    status = answer.status_code
    if status == httpx2.codes.OK:
        return
    why = refusal_in((await _body(answer, _MOST_LINE)).decode(errors="replace"))
    if status in REFUSALS:
        raise EngineRefusedError(f"{url} refuses with {status}{why}", status=status)
    raise EngineLostError(f"{url} answers {status}{why}", status=status)


def refusal_in(text: str) -> str:
    """What the plug-in said, found in a server's words; never more of these, which may quote the
    prompt."""
    named = _NAMED.search(text)
    return f": {named[0]}" if named else "; its own log says why"


async def _body(answer: httpx2.Response, most: int) -> bytes:
    raw = bytearray()
    async for part in answer.aiter_bytes():
        raw += part
        if len(raw) > most:
            raise EngineRefusedError(f"{answer.url} answers with more than {most} bytes")
    return bytes(raw)


async def _data(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """The `data` of each event; ours and vLLM's are one line each."""
    rest = b""
    async for part in answer.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > _MOST_LINE:
            raise EngineRefusedError(f"{answer.url} sends a line of more than {_MOST_LINE} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _lost(url: str, error: Exception) -> EngineLostError:
    return EngineLostError(f"{url} does not answer: {error or type(error).__name__}")
