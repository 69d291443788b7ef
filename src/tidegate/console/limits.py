"""How often somebody may ask: token buckets in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tidegate.clock import Clock

_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many more each second."""

    burst: int
    a_second: float


LOGIN: Final = Rate(burst=5, a_second=5 / 300)
"""Failed tries to log in from one address: five, then one a minute."""
LOGIN_NAME: Final = Rate(burst=50, a_second=50 / 3600)
"""Failed tries at one person's password from everywhere: more, so that a stranger can hardly lock
out an approver, and few enough for a password of twelve characters."""
REQUESTS: Final = Rate(burst=60, a_second=20)
"""Requests of one session; a page asks for less than two a second."""


class Limiter:
    """One bucket a name. A name that is forgotten for want of room begins with an empty bucket of
    its own, so forgetting never helps whoever floods."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._forgot = False

    def wait(self, name: str) -> float:
        """Take one; 0 if it may be had now, else the seconds until one may."""
        now = self._clock.monotonic()
        full = 1.0 if self._forgot else float(self._rate.burst)
        left, then = self._buckets.pop(name, (full, now))
        left = min(float(self._rate.burst), left + (now - then) * self._rate.a_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate.a_second
        self._buckets[name] = (left - (wait == 0), now)
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
            self._forgot = True
        return wait

    def give_back(self, name: str) -> None:
        """What was taken does not count after all."""
        if name in self._buckets:
            left, then = self._buckets[name]
            self._buckets[name] = (min(float(self._rate.burst), left + 1), then)
