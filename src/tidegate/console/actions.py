"""Who did what at the console: an event like any other, written before the deed takes effect."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import Final

from tidegate.clock import Clock
from tidegate.console.event import Event
from tidegate.console.events import Events
from tidegate.console.hub import Hub
from tidegate.console.watch import brief

_SEVERITY: Final = {"login_failed": 2, "login_limited": 3, "prompt_refused": 2, "read_prompt": 2}
_PLAIN: Final = re.compile(r"[\w.@:+-]{0,64}", re.ASCII)

Sink = Callable[[Event], None]
"""Somewhere else to write an action to, such as the transparency log. Raises ConsoleError."""


class Actions:
    """The log of actions. What cannot be written down is not done: ConsoleError is raised."""

    def __init__(self, events: Events, hub: Hub, clock: Clock, sink: Sink | None = None) -> None:
        self._events, self._hub, self._clock, self._sink = events, hub, clock, sink

    async def did(self, who: str, action: str, what: str = "") -> None:
        """`who`, empty for nobody known, did `action` to `what`. Raises ConsoleError."""
        # What strangers type as a name may be anything, a password even.
        told = what if _PLAIN.fullmatch(what) else "(unreadable)"
        event = Event(
            uid=f"action-{secrets.token_hex(16)}",
            time=self._clock.now(),
            severity=_SEVERITY.get(action, 1),
            kind="action",
            source="console",
            subject=who,
            title=f"{who or 'somebody'}: {action.replace('_', ' ')} {told}".rstrip(),
            body={"action": action, "what": told},
        )
        if self._sink is not None:
            await asyncio.to_thread(self._sink, event)
        for kept in await asyncio.to_thread(self._events.add, (event,)):
            self._hub.event(brief(kept))
