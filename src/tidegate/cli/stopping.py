"""How a half is told to stop: once, to end what it has begun; twice, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

_log = structlog.get_logger(__name__)


class Stopping:
    """`asked` is set by the first word, `at_once` by the second."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def ask(self) -> None:
        """One word; for signal handlers."""
        (self.at_once if self.asked.is_set() else self.asked).set()

    def break_off(self) -> None:
        """Both words: there is nothing to wait for."""
        self.asked.set()
        self.at_once.set()

    async def patience(self, emptied: Awaitable[object], seconds: float) -> bool:
        """Wait for `emptied`, for at most so long and until the second word; whether it came."""
        waiting = asyncio.ensure_future(emptied)
        hurrying = asyncio.create_task(self.at_once.wait())
        try:
            await asyncio.wait(
                {waiting, hurrying}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            came = waiting.done()
        finally:
            for task in (waiting, hurrying):
                task.cancel()
            await asyncio.gather(waiting, hurrying, return_exceptions=True)
        if not came:
            _log.warning("drain_cut_short", patience_s=seconds)
        return came
