"""Looks at everything once a second, keeps what is new, and tells whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from structlog.typing import FilteringBoundLogger

from tidegate.clock import Clock
from tidegate.console.errors import ConsoleError, SourceError
from tidegate.console.event import Event, Kept
from tidegate.console.events import Events
from tidegate.console.headline import Part, headline
from tidegate.console.hub import Hub
from tidegate.console.picture import (
    Budget,
    Gate,
    Grants,
    Link,
    Missing,
    Mood,
    Picture,
    Verification,
)
from tidegate.console.sources import Feed, Reading, Source
from tidegate.units import Seconds

EVERY_S: Final = Seconds(1.0)
_Part = TypeVar("_Part", Budget, Link, Verification, Gate, Grants)

Briefly = msgspec.json.Encoder()


class Watch:
    """Owns the picture. `run` until cancelled; `glance` once."""

    def __init__(
        self,
        name: str,
        sources: Mapping[str, Source],
        feeds: Sequence[Feed],
        events: Events,
        hub: Hub,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._name, self._feeds, self._events = name, tuple(feeds), events
        self._hub, self._clock, self._log = hub, clock, log
        self._reading = Reading(sources)
        self._mood: Mood | None = None
        self.picture: Picture | None = None

    async def run(self) -> None:
        """Look again and again. What goes wrong is logged, shown, and tried again."""
        while True:
            try:
                await self.glance()
            except ConsoleError as error:
                self._log.error("console_failed", reason=error.message)
            await self._clock.sleep(EVERY_S)

    async def glance(self) -> Picture:
        """Look once. Raises ConsoleError: events could not be kept or read."""
        for kept in await asyncio.to_thread(self._fed):
            self._hub.event(brief(kept))
        parts = await self._reading.read()
        alerts = await asyncio.to_thread(self._events.still_open)
        picture = Picture(
            name=self._name,
            time=self._clock.now(),
            headline=headline(parts, alerts),
            budget=_known(parts.get("budget"), Budget),
            link=_known(parts.get("link"), Link),
            verification=_known(parts.get("verification"), Verification),
            gate=_known(parts.get("gate"), Gate),
            grants=_known(parts.get("grants"), Grants),
            alerts=alerts,
            viewers=self._hub.viewers,
        )
        self.picture = picture
        self._hub.picture(picture.json())
        await self._changed(picture)
        return picture

    async def _changed(self, picture: Picture) -> None:
        """A change of mood is an event of its own, so that it can be found later."""
        before, self._mood = self._mood, picture.headline.mood
        if before is None or before == self._mood:
            return
        # Never an alert itself: it would keep the mood that it tells of.
        severity = 1 if self._mood is Mood.GOOD else 2
        event = Event(
            uid=f"mood-{picture.time:.3f}",
            time=picture.time,
            severity=severity,
            kind="mood",
            source="console",
            subject="",
            title=f"{picture.headline.says}: {'; '.join(picture.headline.because) or 'all well'}",
            body={"because": list(picture.headline.because)},
        )
        for kept in await asyncio.to_thread(self._events.add, (event,)):
            self._hub.event(brief(kept))

    def _fed(self) -> tuple[Kept, ...]:
        new: list[Kept] = []
        for feed in self._feeds:
            try:
                new += self._events.add(feed.read())
            except SourceError as error:
                self._log.error("feed_failed", reason=error.message)
        return tuple(new)


def brief(kept: Kept) -> bytes:
    """An event without its evidence, for lists."""
    return Briefly.encode(
        {
            "n": kept.n,
            "time": kept.event.time,
            "severity": kept.event.severity,
            "kind": kept.event.kind,
            "source": kept.event.source,
            "subject": kept.event.subject,
            "title": kept.event.title,
            "done": kept.done,
        }
    )


def _known(part: Part | None, kind: type[_Part]) -> _Part | Missing:
    if isinstance(part, kind | Missing):
        return part
    return Missing(reason="not set up", wanted=False)
