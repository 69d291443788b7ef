"""Time as a value that is handed in, so that tests can move it and a clock jump is seen."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from tidegate.units import Seconds, Timestamp


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> Timestamp:
        """Wall time; may jump either way when the host's clock is set."""
        ...

    def monotonic(self) -> Seconds:
        """Never goes back; the origin is arbitrary."""
        ...

    async def sleep(self, duration: Seconds) -> None:
        """Return once `duration` has passed on the monotonic clock."""
        ...


class SystemClock:
    """The host's clocks."""

    def now(self) -> Timestamp:
        return Timestamp(time.time())  # noqa: TID251  the one place that reads the wall clock

    def monotonic(self) -> Seconds:
        return Seconds(time.monotonic())

    async def sleep(self, duration: Seconds) -> None:
        await asyncio.sleep(max(0.0, duration))


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> Timestamp:
        return Timestamp(self._now)

    def monotonic(self) -> Seconds:
        return Seconds(self._monotonic)

    async def sleep(self, duration: Seconds) -> None:
        self.advance(duration)
        await asyncio.sleep(0)

    def advance(self, duration: float) -> None:
        """Let `duration` seconds pass on both clocks."""
        self._now += duration
        self._monotonic += max(0.0, duration)

    def jump(self, offset: float) -> None:
        """Set the wall clock forward or back, as an operator or an attacker with NTP would."""
        self._now += offset
