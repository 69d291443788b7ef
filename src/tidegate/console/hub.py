"""One picture, many viewers: encoded once, handed to each that keeps up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

MOST_VIEWERS: Final = 500
_BEHIND: Final = 64
"""Messages a viewer may be behind before he is let go; his browser comes back by itself."""


class Hub:
    """Server-sent events, ready to send. Belongs to one event loop."""

    def __init__(self) -> None:
        self._viewers: set[asyncio.Queue[bytes | None]] = set()
        self._picture = b""
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many watch now."""
        return len(self._viewers)

    @property
    def full(self) -> bool:
        """Whether no more may come."""
        return self._closed or len(self._viewers) >= MOST_VIEWERS

    def picture(self, json: bytes) -> None:
        """Everybody sees this picture; whoever comes later sees it first."""
        self._picture = message("picture", json)
        self._tell(self._picture)

    def event(self, json: bytes) -> None:
        """Everybody hears of an event."""
        self._tell(message("event", json))

    def close(self) -> None:
        """Nobody is told anything any more."""
        self._closed = True
        for viewer in self._viewers:
            _put(viewer, None)

    async def watch(self, beat: float) -> AsyncIterator[bytes]:
        """What one viewer is sent, from now on; a comment at least every `beat` seconds."""
        with self._watching() as queue:
            if self._picture:
                yield self._picture
            while True:
                try:
                    told = await asyncio.wait_for(queue.get(), beat)
                except TimeoutError:
                    yield b":\n\n"
                    continue
                if told is None:
                    return
                yield told

    @contextmanager
    def _watching(self) -> Iterator[asyncio.Queue[bytes | None]]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_BEHIND)
        self._viewers.add(queue)
        try:
            yield queue
        finally:
            self._viewers.discard(queue)

    def _tell(self, told: bytes) -> None:
        for viewer in self._viewers:
            _put(viewer, told)


def _put(viewer: asyncio.Queue[bytes | None], told: bytes | None) -> None:
    """To a viewer who is too far behind, only that it is over."""
    if viewer.full() or told is None:
        while not viewer.empty():
            viewer.get_nowait()
        told = None
    viewer.put_nowait(told)


def message(name: str, json: bytes) -> bytes:
    """One server-sent event. JSON has no line ends outside its strings, and none inside."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), json)
