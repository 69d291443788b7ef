"""Where the picture's parts come from: one port, and one reading of all of them.

A source is read from a thread of its own, once a second or so. What cannot be read, or takes too
long, is missing with its reason; it never holds up the others, and is not asked again meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias

from tidegate.console.errors import SourceError
from tidegate.console.event import Event
from tidegate.console.headline import Part
from tidegate.console.picture import Missing

PATIENCE_S: Final = 2.0


class Source(Protocol):
    """One part of the picture."""

    def read(self) -> Part:
        """The part as it is now. Blocks; called by one thread at a time.

        Raises:
            SourceError: it cannot be known now; the message says why, and what to do.
        """
        ...


class Feed(Protocol):
    """Something that tells of events."""

    def read(self) -> tuple[Event, ...]:
        """Events since the last call, at most some thousands; earlier ones may come again.

        Raises:
            SourceError: it cannot be read now.
        """
        ...


Parts: TypeAlias = dict[str, Part]


class Reading:
    """Reads sources side by side, with patience."""

    def __init__(self, sources: Mapping[str, Source], *, patience: float = PATIENCE_S) -> None:
        self._sources = dict(sources)
        self._patience = patience
        self._running: dict[str, asyncio.Future[Part]] = {}

    async def read(self) -> Parts:
        """Every part, known or missing."""
        parts = await asyncio.gather(*(self._one(name) for name in self._sources))
        return dict(zip(self._sources, parts, strict=True))

    async def _one(self, name: str) -> Part:
        running = self._running.get(name)
        if running is None:
            running = asyncio.ensure_future(asyncio.to_thread(self._sources[name].read))
            self._running[name] = running
        done, _ = await asyncio.wait([running], timeout=self._patience)
        if not done:
            return Missing(reason=f"it did not answer within {self._patience:g} s")
        del self._running[name]
        try:
            return running.result()
        except SourceError as error:
            return Missing(reason=error.message)
