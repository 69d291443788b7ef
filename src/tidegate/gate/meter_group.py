"""Several meters asked about one instant, and held against each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tidegate.clock import Clock
from tidegate.errors import LedgerError
from tidegate.gate.meter_port import Boundary, Meter, MeterError, Reading, Span
from tidegate.gate.published import Counts
from tidegate.gate.reconcile import Agree, CannotTell, Verdict, reconcile


def boot_id() -> str:
    """The kernel's name for the time since it was started.

    Raises:
        MeterError: it does not say, so that monotonic times mean nothing.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise MeterError(f"the kernel does not say when it was started: {error}") from error


class Group:
    """Meters with one starting point.

    Each boundary is read twice, all meters before any is read again: so all spans bracket the
    instant between the rounds.

    Args:
        meters: at least three, of which no two may share a name.
        clock: stamps boundaries.
        boot: as `boot_id` tells; boundaries of different ones are never compared.
    """

    def __init__(self, meters: Sequence[Meter], clock: Clock, boot: str) -> None:
        self._meters = tuple(meters)
        self._clock = clock
        self._boot = boot
        self._number = 0
        self.base: tuple[Reading, ...] = ()
        self._first: tuple[Reading, ...] = ()
        self.spans: tuple[Span, ...] = ()

    def boundary(self) -> Boundary:
        """The next boundary: now."""
        self._number += 1
        return Boundary(self._number, int(1e9 * self._clock.monotonic()), self._boot)

    def zero(self, *, within_s: float = 5.0) -> None:
        """Count from an instant at which nothing is in flight. Call it while the gate is closed.

        Raises:
            MeterError: a meter cannot be read, or traffic never rests.
        """
        until = self._clock.monotonic() + within_s
        while True:
            self.spans = self._read(self.boundary())
            self.base = tuple(span.after for span in self.spans)
            verdict = reconcile(self.base, self.spans, least=len(self._meters))
            if isinstance(verdict, Agree) and verdict.settled:
                self._first = self.base
                return
            if self._clock.monotonic() > until:
                raise MeterError("the wire is never at rest: close the gate before its meters open")

    def judge(self) -> Verdict:
        """What the meters say of now; a meter that cannot be read makes it `CannotTell`."""
        boundary = self.boundary()
        try:
            self.spans = self._read(boundary)
        except (MeterError, LedgerError) as error:
            return CannotTell(boundary, error.message)
        verdict = reconcile(self.base, self.spans)
        if isinstance(verdict, Agree) and verdict.settled:
            # What a queue dropped meanwhile is accounted for from here on.
            self.base = tuple(span.after for span in self.spans)
        return verdict

    def settled(self, *, within_s: float = 5.0) -> Verdict:
        """Judge again and again until nothing is in flight, or the time is over."""
        until = self._clock.monotonic() + within_s
        while True:
            verdict = self.judge()
            rests = not isinstance(verdict, Agree) or verdict.settled
            if rests or self._clock.monotonic() > until:
                return verdict
            time.sleep(0.01)

    def counts(self) -> tuple[Counts, ...]:
        """What each meter counted since `zero`, when it was last read."""
        return tuple(
            _counted(span.after, first)
            for span, first in zip(self.spans, self._first, strict=False)
        )

    def _read(self, boundary: Boundary) -> tuple[Span, ...]:
        before = [meter.read(boundary) for meter in self._meters]
        after = [meter.read(boundary) for meter in self._meters]
        return tuple(map(Span, before, after))


def _counted(now: Reading, first: Reading) -> Counts:
    total = now.total - first.total

    def known(field: str) -> int | None:
        return getattr(total, field) if field in now.knows else None

    return Counts(now.meter, known("frames"), known("ip_bytes"), known("wire_bytes"))
