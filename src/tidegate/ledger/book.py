"""The ledger as the rest of Tidegate uses it: decide, write durably, and only then answer."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tidegate.clock import Clock
from tidegate.errors import LedgerError, TidegateError
from tidegate.ledger.accounts import Balance
from tidegate.ledger.budgets import Budgets, Scope
from tidegate.ledger.entries import (
    Charge,
    Command,
    Commit,
    Extend,
    Open,
    Recover,
    Release,
    Reserve,
    TopUp,
    plain,
)
from tidegate.ledger.errors import HeadMovedError
from tidegate.ledger.state import Reservation, Row, State, decide
from tidegate.ledger.store import Store
from tidegate.ledger.verify import Verdict, catch_up, verify
from tidegate.transparency.note import Checkpoint, Signer
from tidegate.units import Bits

Step = Callable[[State, int, int], tuple[State, tuple[Row, ...]]]
"""What to write, given the state, ledger time and wall time, both in milliseconds: the state after
it, and its rows. Called again, with what has changed, where another writer was first."""

ATTEMPTS = 1_000
"""Lost races in a row before giving up: each loss means that some other writer got on."""


class Ledger:
    """Budgets enforced over a log. Safe to share between threads; several may share one store.

    Bits that were reserved count as spent until `commit` or `release`; if their writer dies they
    stay so until somebody calls `recover`, which is logged.

    **Ledger time** is what rolling windows go by. Each entry's time is that of the entry before it
    plus what this writer's *monotonic* clock measured since it first saw that entry. So a jump of
    the wall clock, a restart, a rollback of the host's time or a second writer never ages a bit by
    more than the seconds that really passed; downtime ages nothing, and `top_up` is the remedy.

    Args:
        store: where the log lives.
        budgets: the caps this writer enforces; recorded in the log.
        clock: `monotonic()` moves ledger time, `now()` is written down for people.

    Raises:
        LedgerError: the log cannot be read, does not verify, or cannot be written.
    """

    def __init__(self, store: Store, budgets: Budgets, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        self._state = State(budgets)
        self._seen_at, self._base = clock.monotonic(), 0
        self._stale = True
        self.record(Open(budgets))

    def reserve(self, principal: str, edge: str, bits: Bits) -> Reservation:
        """Hold `bits` of `principal`'s on `edge`, durably, before they leave.

        Raises:
            BudgetExceededError: nothing was held. Its details: `scope`, `budget` (`lifetime` or
                `N s`), `needed`, `left`, `retry_after_s` (seconds until that window has room if
                nothing else is spent; None if waiting alone will not do).
            LedgerError: an unknown edge, or the store failed: send nothing.
        """
        with self._lock:
            n = self.record(Reserve(principal, edge, bits))
            return self._state.held[n]

    def extend(self, reservation: Reservation, bits: Bits) -> Reservation:
        """Hold `bits` more; the reservation as it then is. Raises as `reserve`."""
        with self._lock:
            self.record(Extend(reservation.id, bits))
            return self._state.held[reservation.id]

    def commit(self, reservation: Reservation, bits: Bits) -> None:
        """Charge `bits`, at most what is held, and free the rest.

        Raises:
            LedgerError: not open, more than is held, or the store failed. After a failure the bits
                count as spent, committed or still held.
        """
        self.record(Commit(reservation.id, bits))

    def release(self, reservation: Reservation) -> None:
        """Free a reservation under which nothing crossed. Raises as `commit`."""
        self.record(Release(reservation.id))

    def recover(self, reservation: Reservation, bits: Bits, reason: str) -> None:
        """Settle a dead writer's reservation at `bits`, on somebody's word. Raises as `commit`."""
        self.record(Recover(reservation.id, bits, plain(reason)))

    def charge(self, principal: str, edge: str, bits: Bits, reason: str) -> None:
        """Charge an incident even where it overdraws a budget.

        Raises:
            LedgerError: an unknown edge, or the store failed.
        """
        self.record(Charge(principal, edge, bits, plain(reason)))

    def top_up(self, scope: Scope, bits: Bits, reason: str) -> None:
        """Allow `bits` more: for good under a lifetime cap, for one length of it in each window.

        Raises:
            LedgerError: an unknown account, or the store failed.
        """
        self.record(TopUp(scope, bits, plain(reason)))

    def record(self, *commands: Command) -> int:
        """Carry out `commands` in one durable write, all or none: many streams' leases at once.

        Returns:
            The number of the first entry; a `Reserve` at position i opened reservation number + i.

        Raises:
            BudgetExceededError: as `reserve`, of the first command that is refused.
            LedgerError: a command that breaks a rule, or the store failed.
        """
        return self.carry_out(
            lambda state, time, wall: decide(state, commands, time=time, wall=wall)
        )

    def carry_out(self, step: Step) -> int:
        """`record` for commands that depend on the state. Returns and raises the same."""
        with self._lock:
            for _ in range(ATTEMPTS):
                fresh = self._stale
                if fresh:
                    self._refresh()
                before, wall = self._state, max(0, int(1000 * self._clock.now()))
                try:
                    after, rows = step(before, self._time(), wall)
                except TidegateError:
                    if fresh:
                        raise
                    # Another writer may have freed bits this one still counts: look, then refuse.
                    self._stale = True
                    continue
                # Until the store says otherwise nobody knows where the log ends.
                self._stale = True
                try:
                    self._store.append(before.tip, rows)
                except HeadMovedError:
                    continue
                self._state, self._stale = after, False
                return before.tip.size
        raise LedgerError("The ledger's store is contended; no write got through.")

    def reservation(self, n: int) -> Reservation | None:
        """The open reservation number `n`, as this writer knows it."""
        with self._lock:
            return self._state.held.get(n)

    def held(self) -> tuple[Reservation, ...]:
        """Every open reservation, this writer's and others', oldest first."""
        with self._lock:
            self._refresh()
            return tuple(self._state.held[n] for n in sorted(self._state.held))

    def balance(self, scope: Scope) -> Balance:
        """One account now, other writers' entries included.

        Raises:
            LedgerError: the store cannot be read.
        """
        with self._lock:
            self._refresh()
            return self._state.account(scope).balance(self._time())

    def checkpoint(self, signer: Signer) -> str:
        """The log's size and root as a signed note, to be kept out of the store's owner's reach.

        Raises:
            LedgerError: the store cannot be read.
        """
        with self._lock:
            self._refresh()
            head = Checkpoint(signer.name, self._state.tip.size, self._state.root)
        return signer.sign(head)

    def verify(self, trusted: Checkpoint | None = None) -> Verdict:
        """Recompute the log from its first entry, and compare it with what this writer holds."""
        with self._lock:
            live = self._state
        return verify(self._store, live.budgets, trusted=trusted, live=live)

    def _refresh(self) -> None:
        state = catch_up(self._store, self._state)
        if state is not self._state:
            self._state = state
            self._seen_at, self._base = self._clock.monotonic(), state.time
        self._stale = False

    def _time(self) -> int:
        measured = int(1000 * (self._clock.monotonic() - self._seen_at))
        return max(self._state.time, self._base + measured)
