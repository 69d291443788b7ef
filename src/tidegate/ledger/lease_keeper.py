"""Keeps a holder's leases: the one thread that talks to the database.

A round: write what the leases ask for, all of it in one append; give word that this holder lives;
charge the leases of holders that do not. What failed in doubt is looked up before anything else is
written. A database that is slow or gone stops nothing at once: streams draw on what is held until
`LeaseTerms.drawn_for` has passed, and then no bit leaves until the database answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from tidegate.clock import Clock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.ledger.book import Ledger
from tidegate.ledger.budgets import Budgets
from tidegate.ledger.entries import Open, Recover, plain
from tidegate.ledger.errors import (
    FencedError,
    InvalidEntryError,
    RolledBackError,
    SplitBrainError,
    UnreplicatedError,
)
from tidegate.ledger.lease import Ask, LeaseDesk
from tidegate.ledger.lease_port import Seen, SharedStore
from tidegate.ledger.lease_write import Batch, Held, entries_after, found, took_place

_log = structlog.get_logger(__name__)

_LOOK: Final = 5
"""Beats between two looks at the other servers and at leases that nobody answers for."""

_QUIET: Final = 3
"""Beats for which nobody may go by a name before the holder that was fenced off takes it again."""

_GRACE: Final = 1.25
"""Over a lease's length, for monotonic clocks that run at different rates."""

_WRONG = (RolledBackError, SplitBrainError, UnreplicatedError, InvalidEntryError)
"""Not that the database is slow, but that it is not the one it should be: draw on nothing."""


class LeaseKeeper:
    """Joins on `start`, and then runs in a thread of its own until `close`.

    Args:
        holder: this outer half's name, as its `store` joins under it.
        incident: told the code of what a person should look at.
    """

    def __init__(
        self,
        desk: LeaseDesk,
        store: SharedStore,
        holder: str,
        budgets: Budgets,
        clock: Clock,
        incident: Callable[[str], None] = lambda code: None,
    ) -> None:
        self._desk = desk
        self._store = store
        self._holder = holder
        self._budgets = budgets
        self._clock = clock
        self._incident = incident
        self._ledger: Ledger | None = None
        self._joined = False
        self._token = 0
        self._fenced: tuple[int, float] | None = None
        """After being fenced off: the beats under this holder's name, and since when so many."""
        self._pending: tuple[Ask, ...] = ()
        self._doubt = True
        self._beaten = float("-inf")
        self._beats = 0
        self._others: dict[str, tuple[Seen, float]] = {}
        self._pressed = False
        self._trouble = ""
        self._looking = threading.Thread()
        self._split: SplitBrainError | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def ledger(self) -> Ledger:
        """The ledger as of now, for who only looks. Raises LedgerError: there is none."""
        ledger = self._ledger
        if ledger is None:
            raise LedgerError("The ledger cannot be used now.")
        return ledger

    def start(self) -> None:
        """Join, charge in full what an earlier start of this holder left, and begin.

        Raises:
            LedgerError: the store cannot be used.
        """
        self._sort_out()
        self._beat()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Settle every lease. What streams still hold stays held: nobody knows how much crossed."""
        self._stop.set()
        self._desk.wake.set()
        if self._thread is not None:
            self._thread.join(self._desk.terms.lasts)
            if self._thread.is_alive():
                # It waits for the database still. What is held counts, and is charged when reaped.
                self._alarm("ledger_not_settled", "The leases could not be settled in time.")
                return
        try:
            self._sort_out()
            # Twice: what covered an incident goes back once that is written down.
            for _ in range(2):
                self._write(self._desk.asks(hungry=False, closing=True))
        except LedgerError as error:
            self._tell(error)

    def round(self) -> None:
        """One round. What goes wrong is told and kept for the next; raises no LedgerError."""
        try:
            self._sort_out()
            self._write(self._desk.asks(hungry=self._pressed))
            if self._desk.starving():
                # Before a refusal is believed, what this holder itself can spare goes back.
                self._write(self._desk.asks(hungry=True))
            if self._clock.monotonic() - self._beaten >= self._desk.terms.beat:
                self._beat()
            self._trouble = ""
        except LedgerError as error:
            self._doubt = True
            if isinstance(error, FencedError):
                self._fenced = self._fenced or (-1, self._clock.monotonic())
                self._joined, self._ledger, self._pending = False, None, ()
                self._desk.lost()
            elif isinstance(error, _WRONG):
                self._desk.stop_drawing()
                if isinstance(error, RolledBackError | InvalidEntryError):
                    self._ledger = None
            self._tell(error)
        self._desk.answer_waiters(final=not self._company())

    def _run(self) -> None:
        terms = self._desk.terms
        while not self._stop.is_set():
            eager = self._trouble or self._desk.starving()
            self._desk.wake.wait(terms.beat / 4 if eager else terms.beat)
            self._desk.wake.clear()
            if not self._stop.is_set():
                self.round()
                self._stop.wait(terms.gather)

    def _join(self) -> None:
        asked = self._clock.monotonic()
        self._token = self._store.join()
        self._ledger = Ledger(self._store, self._budgets, self._clock)
        self._pending, self._doubt = (), False
        self._reap({one.name: one.fence for one in self._store.beat(hungry=False)})
        self._joined, self._fenced = True, None
        self._desk.heard(asked)

    def _check_name(self) -> None:
        """After having been fenced off: join again only where nobody else goes by this name.

        Two halves with one name would otherwise fence each other off for ever, and charge the
        other's leases each time. The one that started last goes on.

        Raises:
            FencedError: somebody has given word under this name just now.
        """
        if self._fenced is None:
            return
        now = self._clock.monotonic()
        beats = next((one.beats for one in self._store.holders() if one.name == self._holder), 0)
        if beats != self._fenced[0]:
            self._fenced = beats, now
        if now - self._fenced[1] < _QUIET * self._desk.terms.beat:
            raise FencedError(
                f"The holder {self._holder!r} was fenced off, and joins again once nobody else"
                " goes by its name."
            )

    def _sort_out(self) -> None:
        """Get to know what the log says of this holder's leases, where that is in doubt."""
        if not self._doubt:
            return
        asked = self._clock.monotonic()
        if self._split is not None:
            self._store.look_around()
            self._split = None
        if not self._joined:
            self._check_name()
            self._join()
            return
        if self._ledger is None:
            # What was read last is gone; what was acknowledged may not be, which the store checks.
            self._ledger = Ledger(self._store, self._budgets, self._clock)
        else:
            self._ledger.record(Open(self._budgets))
        # An entry of this holder's stands behind whatever was in doubt. So a write that is still
        # under way can no longer succeed, and all that is read now is as durable as that entry.
        held = self._held()
        happened = took_place(self._pending, held)
        pending = {id(ask.lease) for ask in self._pending}
        for ask in self._pending:
            now = found(ask.lease, held)
            bits = now[0].bits if now else 0
            if happened:
                self._desk.settled(ask, tuple(one.id for one in now), bits)
            else:
                self._desk.not_written(ask, bits)
        self._pending = ()
        for lease in self._desk.leases():
            if id(lease) not in pending and lease.entries != tuple(
                one.id for one in found(lease, held)
            ):
                raise FencedError("Leases of this holder were settled by others.")
        self._doubt = False
        self._desk.heard(asked)

    def _write(self, asks: tuple[Ask, ...]) -> None:
        """Carry out `asks` in one append; where the budgets refuse some, what they allow."""
        if not asks:
            return
        asked = self._clock.monotonic()
        batch = Batch(asks, lenient=False, holders=1)
        try:
            try:
                first = self.ledger.carry_out(batch)
            except BudgetExceededError:
                batch = Batch(asks, lenient=True, holders=1 + len(self._living()))
                first = self.ledger.carry_out(batch)
        except LedgerError:
            self._pending = tuple(ask for ask, *_ in batch.written.places)
            self._forget(asks, self._pending)
            raise
        self._desk.heard(asked)
        for ask, granted, place in batch.written.places:
            entries = entries_after(ask, granted, first + place)
            held = self.ledger.reservation(entries[0]) if entries else None
            self._desk.settled(ask, entries, held.bits if held else 0)
        self._forget(asks, [ask for ask, *_ in batch.written.places])
        for principal, error in batch.written.refused:
            self._desk.refuse(principal, error)

    def _forget(self, asks: Sequence[Ask], written: Sequence[Ask]) -> None:
        known = {id(ask) for ask in written}
        for ask in asks:
            if id(ask) not in known:
                self._desk.not_written(ask, ask.lease.held)

    def _beat(self) -> None:
        """Give word, see who else does, and charge what nobody answers for."""
        look = self._beats % _LOOK == 0
        self._beats += 1
        if look and not self._looking.is_alive():
            # A server that does not answer must not hold up who keeps the leases.
            self._looking = threading.Thread(target=self._look, name="lease-look", daemon=True)
            self._looking.start()
        if self._split is not None:
            raise self._split
        asked = self._clock.monotonic()
        seen = self._store.beat(hungry=self._desk.starving())
        self._beaten = asked
        self._desk.heard(asked)
        for one in seen:
            known = self._others.get(one.name)
            if known is None or (known[0].fence, known[0].beats) != (one.fence, one.beats):
                self._others[one.name] = one, asked
            else:
                self._others[one.name] = one, known[1]
        self._pressed = any(one.hungry for one in self._living())
        if look:
            self._reap({one.name: one.fence for one in seen})

    def _look(self) -> None:
        try:
            self._store.look_around()
        except SplitBrainError as error:
            self._split = error

    def _living(self) -> tuple[Seen, ...]:
        """The other holders that gave word within a lease's length, as this clock measures."""
        now, lasts = self._clock.monotonic(), self._desk.terms.lasts
        return tuple(
            one
            for name, (one, since) in self._others.items()
            if name != self._holder and now - since < lasts
        )

    def _company(self) -> bool:
        return bool(self._living())

    def _reap(self, fences: dict[str, int]) -> None:
        """Charge in full what is held by holders that are gone, or by nobody."""
        now, long = self._clock.monotonic(), _GRACE * self._desk.terms.lasts
        held = {one.id: one for one in self.ledger.held()}
        # Read after what is held: so a lease that was just taken is not one that nobody claims.
        claims = {claim.n: claim for claim in self._store.claims()}
        for name in {claim.holder for claim in claims.values()} - {self._holder}:
            one, since = self._others.get(name, (None, now))
            if one is not None and one.fence == fences.get(name) and now - since >= long:
                # A holder that has just given word is left alone.
                fences[name] = one.fence + self._store.fence_off(one)
        gone: list[Recover] = []
        for n, one_held in held.items():
            claim = claims.get(n)
            if claim is None or claim.fence < fences.get(claim.holder, claim.fence + 1):
                who = "nobody" if claim is None else f"{claim.holder}, token {claim.fence}"
                reason = plain(f"held by {who}, who is gone")
                gone.append(Recover(n, one_held.bits, reason))
        if gone:
            with suppress(InvalidEntryError):
                # Settled by another meanwhile, who charged no less; the next look finds the rest.
                self.ledger.record(*gone)
                self._alarm("ledger_lease_reaped", f"{len(gone)} leases charged in full")

    def _held(self) -> Held:
        me = self._holder, self._token
        mine = {one.n for one in self._store.claims() if (one.holder, one.fence) == me}
        return {(one.principal, one.edge): one for one in self.ledger.held() if one.id in mine}

    def _tell(self, error: LedgerError) -> None:
        if error.code != self._trouble:
            self._trouble = error.code
            self._alarm(error.code, error.message)

    def _alarm(self, code: str, told: str) -> None:
        self._incident(code)
        _log.error(code, message=told, holder=self._holder)
