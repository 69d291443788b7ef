"""Keeps the lease: holds the meters against each other, again and again, and tells the gate.

`Watch.permit` is what the gate's heartbeat asks before each beat. A verdict is written down before
it has an effect; where it cannot be written, the gate closes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from tidegate.clock import Clock
from tidegate.errors import TidegateError
from tidegate.gate.latch import Diary
from tidegate.gate.lease import (
    NOT_YET,
    Allowed,
    Judged,
    Lease,
    Stopped,
    Terms,
    decide,
    refusal,
    said,
)
from tidegate.gate.meter_port import MeterError
from tidegate.gate.published import Counts, Metered
from tidegate.gate.reconcile import Agree, Verdict


class Judge(Protocol):
    """Several meters; `meter_group.Group` is one."""

    def zero(self) -> None:
        """Count from here on; the gate is closed. Raises MeterError."""
        ...

    def judge(self) -> Verdict:
        """What they say of now."""
        ...

    def counts(self) -> tuple[Counts, ...]:
        """What each counted, when it was last asked."""
        ...

    def settled(self) -> Verdict:
        """What they say once nothing is in flight, or when that has been waited for in vain."""
        ...


class Watch:
    """The lease of one gate.

    Args:
        judge: the meters.
        diary: where everything is written down; also says whether an operator latched or reset.
        terms: how long a verdict is good for.
        clock: the gate's.
        boot: as `meter_group.boot_id` tells.
        cover: reserves what may leave during one lease, before it is given. Raises
            BudgetExceededError or LedgerError, which close the gate.
        balance: bytes spent and reserved of the ledger's lifetime, to be shown.
        reopen: other meters, after a reset, and after a change of what the first hang on.
    """

    def __init__(
        self,
        judge: Judge,
        diary: Diary,
        terms: Terms,
        clock: Clock,
        boot: str,
        *,
        cover: Callable[[], None] = lambda: None,
        balance: Callable[[], tuple[int, int]] = lambda: (0, 0),
        reopen: Callable[[], Judge] | None = None,
    ) -> None:
        self._judge, self._diary, self._terms = judge, diary, terms
        self._clock, self._boot = clock, boot
        self._cover, self._reopen = cover, reopen
        self._balance, self._balanced = balance, (0, 0)
        self._renew = False
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        """Whoever asks the meters holds it; a heartbeat never waits for it."""
        self._begun = False
        self._verdict: Verdict | None = None
        self._written_ns = 0
        self._unwritten: str | None = None
        self._lease = Lease(boot, latched=diary.latched())

    def permit(self) -> str | None:
        """Why the gate has to stay closed; None where it may let out for one more beat.

        It never waits for a meter: a heartbeat may ask.
        """
        with self._lock:
            try:
                self._listen()
            except TidegateError as error:
                return error.message
            return refusal(self._lease, self._boot, self._now())

    def seen(self) -> Metered:
        """What the meters said last, for people. Waits for no meter."""
        with self._lock:
            lease, verdict, balanced = self._lease, self._verdict, self._balanced
            counts = self._judge.counts()
        agreed = isinstance(verdict, Agree)
        return Metered(
            verdict=said(verdict) if verdict is not None else NOT_YET,
            agree=agreed,
            settled=isinstance(verdict, Agree) and verdict.settled,
            in_flight=verdict.in_flight if isinstance(verdict, Agree) else None,
            meters=counts,
            ledger_spent=balanced[0],
            ledger_reserved=balanced[1],
            judged_ns=lease.judged_ns,
            lease_until_ns=lease.until_ns,
            closed=lease.closed,
            latched=lease.latched,
        )

    def turn(self) -> Verdict | None:
        """Ask the meters once, and renew, close or latch. None where there was nothing to ask."""
        try:
            with self._asking:
                return self._turn()
        except TidegateError as error:
            with self._lock:
                self._lease = replace(self._lease, until_ns=0, closed=error.message)
            return None

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While this is open, the gate makes anew what its meters hang on, such as its queue; it is
        closed already. First the meters agree to the byte on all that they counted; after it,
        others take their place.

        Raises:
            MeterError: they do not agree, or the wire does not rest: nothing may be changed.
            LedgerError: what they said cannot be written down.
        """
        with self._asking:
            with self._lock:
                self._listen()
                asked = self._begun and self._lease.latched is None
            if asked:
                self._agree(self._judge.settled())
            with self._lock:
                self._begun, self._renew = False, self._reopen is not None
                self._lease = replace(self._lease, until_ns=0, closed=NOT_YET)
            yield

    def _turn(self) -> Verdict | None:
        with self._lock:
            self._listen()
            latched, begun = self._lease.latched is not None, self._begun
        if latched:
            return None
        if not begun:
            self._begin()
        verdict = self._judge.judge()
        if isinstance(verdict, Agree):
            self._cover()
        balanced = self._balance()
        with self._lock:
            self._balanced = balanced
            self._listen()
            self._take(verdict)
        return verdict

    def _agree(self, verdict: Verdict) -> None:
        with self._lock:
            self._take(verdict)
        if not isinstance(verdict, Agree) or not verdict.settled:
            raise MeterError(f"nothing is changed that would end a count: {said(verdict)}")

    def hold(self, stop: threading.Event, *, every_s: float) -> None:
        """Turn until `stop` is set. Runs in a thread of the gate's network namespace."""
        while not stop.is_set():
            self.turn()
            stop.wait(every_s)

    def _begin(self) -> None:
        if self._renew and self._reopen is not None:
            self._judge, self._renew = self._reopen(), False
        # Closed as yet: nothing was judged. What passes from here on, every meter counts.
        self._judge.zero()
        self._diary.write("begun", "the meters count from here on")
        with self._lock:
            self._begun = True

    def _take(self, verdict: Verdict) -> None:
        self._verdict = verdict
        before, now = self._lease, self._now()
        after = decide(before, self._terms, Judged(verdict, now))
        if after.until_ns == 0:
            # Closing does not wait for the disk.
            self._lease = after
        if after.latched is not None:
            if before.latched is None:
                self._unwritten = after.latched
                self._diary.judged(verdict)
                self._diary.latch(after.latched)
                self._unwritten = None
        elif after.closed != before.closed:
            self._diary.write("closed" if after.closed else "opened", after.closed or said(verdict))
        elif after.settled_ns > self._written_ns + self._terms.settle_ns:
            self._diary.judged(verdict)
            self._written_ns = now
        self._lease = after

    def _listen(self) -> None:
        """Follow what others wrote: incidents latch, operators reset."""
        if self._unwritten is not None:
            # The disk was full when the gate latched: until that is written, it is no reset.
            self._diary.latch(self._unwritten)
            self._unwritten = None
        latched = self._diary.latched()
        if latched is not None and self._lease.latched is None:
            self._lease = decide(self._lease, self._terms, Stopped(latched))
        elif latched is None and self._lease.latched is not None:
            self._lease = decide(self._lease, self._terms, Allowed())
            self._begun, self._renew = False, self._reopen is not None

    def _now(self) -> int:
        return int(1e9 * self._clock.monotonic())
