"""What a holder does without the database: streams' bits are drawn from leases it holds already.

A lease is a reservation in the ledger, one on each edge the principal's bits cross. Streams draw on
it here, under a lock and nothing slower; a keeper (`lease_keeper`) asks the ledger for more before
it runs out, settles what was spent, and gives back what nobody uses.

Why nothing leaves uncharged: bits are handed to a stream only out of what the ledger was known to
hold for this holder, and the ledger counts all of that until it is settled. If the holder dies,
whatever it held is charged in full. Clocks decide when that happens, never how much.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from tidegate.clock import Clock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.ledger.entries import plain
from tidegate.ledger.errors import NotLentError
from tidegate.units import Bits, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How leases are sized, in bits, and how long they last, in seconds of a monotonic clock."""

    chunk: int = 1 << 16
    """A lease's size at first: room for some twenty answers."""
    most: int = 1 << 22
    """Its size at most; it doubles each time it is renewed within half a second."""
    standing: int = 1 << 10
    """Of the holder's own account, kept for incidents while the ledger cannot be written."""
    lasts: float = 30.0
    """Without a word for so long, a holder is taken for dead and its leases are charged in full."""
    beat: float = 1.0
    """How often a holder gives word, and sees who else does."""
    settle: float = 30.0
    """What was spent is settled after so long at the latest, so that the log shows it as spent."""
    idle: float = 5.0
    """A lease that nobody used for so long is given back."""
    patience: float = 2.0
    """How long a request waits for bits before it is told to come again."""
    gather: float = 0.02
    """Between two writes: what comes in meanwhile goes into one."""

    @property
    def drawn_for(self) -> float:
        """How long after its last word a holder draws on its leases: less than they last."""
        return 0.8 * self.lasts


@dataclass(slots=True)
class Lease:
    """One principal's bits. `free` may be handed out; the rest is accounted for by its name."""

    principal: str
    edges: tuple[str, ...]
    chunk: int
    entries: tuple[int, ...] = ()
    held: int = 0
    open: int = 0
    """In streams' hands."""
    spent: int = 0
    """Crossed, and not settled in the log yet."""
    returning: int = 0
    """On its way back to the ledger."""
    owed: list[tuple[int, str]] = field(default_factory=list)
    """Incidents that crossed, with reasons, and are not in the log yet."""
    used_at: float = 0.0
    renewed_at: float = float("-inf")
    spent_at: float = float("inf")

    @property
    def owing(self) -> int:
        return sum(bits for bits, _ in self.owed)

    @property
    def free(self) -> int:
        return self.held - self.open - self.spent - self.returning - self.owing


@dataclass(frozen=True, slots=True)
class Ask:
    """One lease's part of a write: settle `spent`, give back `returning`, then hold `more`.

    At `least` so many bits are needed now; `owed` are incidents to write down.
    """

    lease: Lease
    spent: int
    returning: int
    more: int
    least: int
    owed: tuple[tuple[int, str], ...]


@dataclass(slots=True)
class _Part:
    lease: Lease
    bits: int


@dataclass(slots=True)
class _Waiter:
    principal: str
    bits: int
    until: float
    told: Future[None]
    asked: bool = False
    """Whether a write since then asked for its bits, so that a refusal is about them."""


class LeaseDesk:
    """`serve.outer.link_account.Purse` over leases. No call but a large `charge` ever waits.

    Args:
        route: the edges that a principal's bits cross.
        own: the account that pays for incidents.
    """

    def __init__(
        self, clock: Clock, route: Callable[[str], tuple[str, ...]], own: str, terms: LeaseTerms
    ) -> None:
        self.terms = terms
        self.wake = threading.Event()
        """Set when the keeper has something to do."""
        self._clock = clock
        self._route = route
        self._own = own
        self._lock = threading.RLock()
        self._leases: dict[str, Lease] = {}
        self._parts: dict[int, _Part] = {}
        self._next = 0
        self._wanted: dict[str, int] = {own: 0}
        self._refused: dict[str, tuple[BudgetExceededError, float]] = {}
        self._waiters: list[_Waiter] = []
        self._drawn_until = float("-inf")

    def live(self) -> bool:
        """Whether the ledger has heard of this holder lately enough for it to draw."""
        return self._clock.monotonic() < self._drawn_until

    def has(self, principal: str, bits: Bits) -> bool:
        """Whether `reserve` would succeed now."""
        with self._lock:
            return self._room(self._leases.get(principal)) >= bits

    def wait(self, principal: str, bits: Bits) -> Future[None]:
        """Done when `bits` can likely be reserved; fails as `reserve` does, once patience ends."""
        self._check(principal)
        told: Future[None] = Future()
        with self._lock:
            until = self._clock.monotonic() + self.terms.patience
            self._waiters.append(_Waiter(principal, bits, until, told))
        self.wake.set()
        return told

    def reserve(self, principal: str, bits: Bits) -> int:
        """Draw `bits` from the principal's lease, without waiting.

        Raises:
            BudgetExceededError: the budgets have no more; nothing was drawn.
            NotLentError: no more is at hand yet; nothing was drawn.
        """
        with self._lock:
            lease = self._draw(principal, bits)
            self._next += 1
            self._parts[self._next] = _Part(lease, bits)
            return self._next

    def extend(self, reservation: int, bits: Bits) -> None:
        """Draw `bits` more. Raises as `reserve`; LedgerError where the lease was lost."""
        with self._lock:
            part = self._part(reservation)
            if self._leases.get(part.lease.principal) is not part.lease:
                raise LedgerError("The lease of this reservation was charged in full and is gone.")
            self._draw(part.lease.principal, bits)
            part.bits += bits

    def commit(self, reservation: int, bits: Bits) -> None:
        """Of what was drawn, `bits` crossed; the rest is free again. Raises LedgerError."""
        with self._lock:
            part = self._part(reservation)
            if not 0 <= bits <= part.bits:
                raise LedgerError("More crossed than was held.", held=part.bits, crossed=bits)
            del self._parts[reservation]
            part.lease.open -= part.bits
            part.lease.spent += bits
            part.lease.spent_at = min(part.lease.spent_at, self._clock.monotonic())

    def release(self, reservation: int) -> None:
        """Nothing crossed. Raises LedgerError."""
        self.commit(reservation, Bits(0))

    def charge(self, principal: str, bits: Bits, reason: str) -> None:
        """`bits` crossed that were not held: taken from what stands by, or waited for.

        Raises:
            LedgerError: what stands by does not cover it and the database did not answer.
        """
        self._check(principal)
        with self._lock:
            lease = self._leases.get(principal)
            covered = lease is not None and lease.free >= bits
            lease = lease or self._new(principal)
            lease.owed.append((bits, reason))
        self.wake.set()
        if covered:
            return
        for _ in range(int(self.terms.patience / self.terms.gather)):
            with self._lock:
                if lease.free >= 0:
                    return
            threading.Event().wait(self.terms.gather)
        raise LedgerError("What crossed could not be written to the ledger in time.")

    def asks(self, *, hungry: bool, closing: bool = False) -> tuple[Ask, ...]:
        """What to write now: at most one `Ask` a lease; `settled` or `lost` answers each.

        `hungry`: another holder was refused bits, so what nobody needs goes back.
        """
        with self._lock:
            now = self._clock.monotonic()
            needs = self._needs()
            for principal in needs:
                if principal not in self._leases:
                    self._new(principal)
            asks = []
            for lease in self._leases.values():
                ask = self._ask(lease, needs.get(lease.principal, 0), now, hungry, closing)
                if ask is not None:
                    lease.returning += ask.returning
                    asks.append(ask)
            self._wanted = {}
            # What goes back first may be what another asks for.
            return tuple(sorted(asks, key=lambda ask: -ask.returning))

    def settled(self, ask: Ask, entries: tuple[int, ...], held: int) -> None:
        """The write of `ask` took place: the lease is now `entries`, of `held` bits."""
        with self._lock:
            lease = ask.lease
            lease.entries, lease.held = entries, held
            lease.spent -= ask.spent
            lease.returning -= ask.returning
            del lease.owed[: len(ask.owed)]
            lease.spent_at = self._clock.monotonic() if lease.spent else float("inf")
            if ask.more:
                lease.renewed_at = self._clock.monotonic()
            self._refused.pop(lease.principal, None)
            ended = not (entries or lease.open or lease.owed)
            if ended and self._leases.get(lease.principal) is lease:
                del self._leases[lease.principal]

    def not_written(self, ask: Ask, held: int) -> None:
        """The write of `ask` did not take place; the lease holds `held` bits as before."""
        with self._lock:
            ask.lease.returning -= ask.returning
            ask.lease.held = held

    def refuse(self, principal: str, error: BudgetExceededError) -> None:
        """The budgets have no more for `principal`."""
        with self._lock:
            self._refused[principal] = error, self._clock.monotonic()

    def lost(self) -> None:
        """Every lease was charged in full: others took this holder for dead."""
        with self._lock:
            owed = {p: lease.owed for p, lease in self._leases.items() if lease.owed}
            self._leases.clear()
            self._drawn_until = float("-inf")
            for principal, charges in owed.items():
                # The lost lease covers them. They are written down all the same: rather twice.
                self._new(principal).owed = charges
            self._wanted[self._own] = 0

    def heard(self, at: Seconds) -> None:
        """The ledger acknowledged something that was asked at `at`, on the monotonic clock."""
        self._drawn_until = max(self._drawn_until, at + self.terms.drawn_for)

    def stop_drawing(self) -> None:
        """Nothing is known any more: draw on nothing until the ledger is heard again."""
        self._drawn_until = float("-inf")

    def starving(self) -> bool:
        """Whether somebody waits for bits that the budgets refused."""
        with self._lock:
            return any(waiter.principal in self._refused for waiter in self._waiters)

    def answer_waiters(self, *, final: bool) -> None:
        """Tell those whose bits have come or whose patience is over; `final`: refusals, too."""
        with self._lock:
            now = self._clock.monotonic()
            promised: dict[str, int] = {}
            left = []
            for waiter in self._waiters:
                told = waiter.told
                due = promised.get(waiter.principal, 0) + waiter.bits
                refused = waiter.asked and waiter.principal in self._refused
                if told.cancelled():
                    continue
                if self._room(self._leases.get(waiter.principal)) >= due:
                    promised[waiter.principal] = due
                    if told.set_running_or_notify_cancel():
                        told.set_result(None)
                elif now >= waiter.until or (final and refused):
                    if told.set_running_or_notify_cancel():
                        told.set_exception(self._refusal(waiter.principal, just_now=refused))
                else:
                    left.append(waiter)
            self._waiters = left

    def leases(self) -> tuple[Lease, ...]:
        """Every lease, for the keeper, who alone changes their entries."""
        with self._lock:
            return tuple(self._leases.values())

    def _new(self, principal: str) -> Lease:
        lease = Lease(principal, self._route(principal), self.terms.chunk)
        lease.used_at = self._clock.monotonic()
        self._leases[principal] = lease
        return lease

    @staticmethod
    def _check(principal: str) -> None:
        if plain(principal) != principal:
            raise LedgerError("The ledger cannot hold this principal's name.")

    def _room(self, lease: Lease | None) -> int:
        if lease is None or not self.live():
            return 0
        return lease.free - (self.terms.standing if lease.principal == self._own else 0)

    def _draw(self, principal: str, bits: int) -> Lease:
        lease = self._leases.get(principal)
        if lease is None or self._room(lease) < bits:
            self._check(principal)
            self._wanted[principal] = max(bits, self._wanted.get(principal, 0))
            self.wake.set()
            raise self._refusal(principal)
        lease.open += bits
        lease.used_at = self._clock.monotonic()
        if 2 * self._room(lease) < lease.chunk:
            self.wake.set()
        return lease

    def _refusal(
        self, principal: str, *, just_now: bool = False
    ) -> LedgerError | BudgetExceededError:
        error, at = self._refused.get(principal, (None, 0.0))
        just_now = just_now or self._clock.monotonic() - at < self.terms.beat
        if error is not None and just_now and self.live():
            return error
        return NotLentError(
            "The ledger's database has not lent any bits in time; nothing was charged.",
            retry_after_s=float(self.terms.patience),
        )

    def _part(self, reservation: int) -> _Part:
        if reservation not in self._parts:
            raise LedgerError("A reservation was settled twice.", reservation=reservation)
        return self._parts[reservation]

    def _needs(self) -> dict[str, int]:
        needs = dict(self._wanted)
        for waiter in self._waiters:
            waiter.asked = True
            needs[waiter.principal] = needs.get(waiter.principal, 0) + waiter.bits
        return needs

    def _ask(self, lease: Lease, need: int, now: float, hungry: bool, closing: bool) -> Ask | None:
        floor = self.terms.standing if lease.principal == self._own and not closing else 0
        room = lease.free - floor
        # Incidents need no room: they are charged whatever the budgets say.
        least = max(0, need - room, floor - lease.free - lease.owing)
        idle = now - lease.used_at >= self.terms.idle
        more = returning = 0
        if closing or (not least and (idle or hungry)):
            returning = max(0, room)
            lease.chunk = self.terms.chunk
        elif least or 2 * room < lease.chunk:
            if now - lease.renewed_at < 0.5:
                lease.chunk = min(2 * lease.chunk, self.terms.most)
            more = max(least, least + lease.chunk - max(0, room))
        due = closing or more or returning or now - lease.spent_at >= self.terms.settle
        spent = lease.spent if lease.entries and due else 0
        if not (spent or returning or more or lease.owed):
            return None
        return Ask(lease, spent, returning, more, least, tuple(lease.owed))
