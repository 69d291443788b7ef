"""The broker's time: wall time that departs from the monotonic clock is not believed."""

from __future__ import annotations

from tidegate.clock import Clock
from tidegate.vault.grant_errors import ClockMovedError

SLACK_S = 5.0
"""Leap seconds, and what a first synchronisation after start sets right; in all, not each time.
Slewing moves both of Linux's clocks alike, so that only a clock that is set departs at all."""


class BrokerClock:
    """Milliseconds since the Unix epoch, or ClockMovedError.

    A clock that is set while the broker runs, either way, stops it for good: somebody has to look
    and start it again. What a clock did while no broker ran is only seen where it lies behind the
    journal (`after`).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._monotonic = clock.now(), clock.monotonic()

    def wall(self) -> int:
        """What the host's clock says, for people."""
        return max(0, int(1000 * self._clock.now()))

    def now(self, after: int) -> int:
        """The time to decide by, no earlier than `after`, the journal's last.

        Raises:
            ClockMovedError: the wall clock was set, or lies behind the journal.
        """
        passed = self._clock.monotonic() - self._monotonic
        moved = self._clock.now() - self._wall - passed
        if abs(moved) > SLACK_S:
            raise ClockMovedError(
                f"The clock was set by {moved:.0f} s while the broker ran. Nothing is decided "
                "until it has been looked at and the broker started again.",
                moved_s=round(moved, 3),
            )
        wall = self.wall()
        if wall < after - 1000 * SLACK_S:
            raise ClockMovedError(
                f"The clock is {(after - wall) / 1000:.0f} s behind the journal. Set it right; "
                "nothing is decided until then.",
                behind_s=(after - wall) / 1000,
            )
        return max(wall, after)
