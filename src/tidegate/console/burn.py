"""How fast a budget is used up, from what was spent at which time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

KEPT: Final = 600
"""Samples kept: ten minutes at one a second."""
OF_LATE_S: Final = 60.0
_LEAST_S: Final = 2.0


class Burn:
    """Samples of one account, (time, bits spent so far). Times that go back are left out."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=KEPT)

    def add(self, time: float, spent: int) -> None:
        """Spent so far, at a time on a clock that never goes back."""
        if not self._samples or time > self._samples[-1][0]:
            self._samples.append((time, spent))

    @property
    def samples(self) -> tuple[tuple[float, int], ...]:
        """All of them, oldest first."""
        return tuple(self._samples)

    def a_second(self) -> float:
        """Bits a second over the last minute; 0 until there are two seconds of samples."""
        if not self._samples:
            return 0.0
        end, spent = self._samples[-1]
        start, before = next(s for s in self._samples if s[0] >= end - OF_LATE_S)
        if end - start < _LEAST_S:
            return 0.0
        # A counter that began anew with its process has lost nothing but the time before.
        return max(0.0, (spent - before) / (end - start))


def seconds_for(bits: int | None, a_second: float) -> float | None:
    """How long `bits` last at a speed; None where they never end."""
    if bits is None or a_second <= 0:
        return None
    return bits / a_second


def seconds_at_caps(
    bits: int | None, lifetime_left: int | None, windows: Iterable[tuple[int, int]]
) -> float | None:
    """The soonest that `bits` can have crossed under caps of (seconds, bits); None where the
    lifetime cap forbids it for good, or no window holds anybody back."""
    if bits is None or (lifetime_left is not None and lifetime_left < bits):
        return None
    slowest = [bits / allowed * seconds for seconds, allowed in windows if allowed > 0]
    return max(slowest, default=None)
