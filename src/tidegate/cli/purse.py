"""The ledger as the two halves need it: durable before anything leaves, without a write each time.

Both take leases: a larger reservation, drawn on in memory. A lease counts as held in the ledger
until it is settled, so a crash can only make the ledger count too much, by at most what the open
leases hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from tidegate.errors import BudgetExceededError, ConfigError, LedgerError
from tidegate.ledger import Charge, Commit, Extend, Ledger, Reserve
from tidegate.ledger.budgets import edges_along
from tidegate.ledger.state import Reservation
from tidegate.units import Bits

LEASE = Bits(1 << 16)
"""Bits held beyond what streams need: room for some twenty answers, so that most start without
waiting for the disk."""

INNER_LEASE = Bits(1 << 14)
"""Of the inner half's own cap: one write for 2 KiB of frames."""


@dataclass(slots=True)
class _Lease:
    """One principal's lease: `entry` is its first reservation, one an edge follow."""

    principal: str
    edges: tuple[str, ...]
    entry: int
    held: int
    open: int = 0
    spent: int = 0
    renewed: int = 0
    """Part of `spent` in whose place as much is held again."""

    @property
    def free(self) -> int:
        return self.held - self.open - self.spent

    @property
    def entries(self) -> range:
        return range(self.entry, self.entry + len(self.edges))


@dataclass(slots=True)
class _Part:
    lease: _Lease
    bits: int


class LedgerPurse:
    """`serve.outer.link_account.Purse`: a charge falls on every edge up to the principal's zone.

    Streams reserve from their principal's lease. A lease is settled, and taken anew for what is
    still open, once a lease's worth was spent. When a budget refuses, what others' leases do not
    need is given back before the refusal is believed.
    """

    def __init__(
        self, ledger: Ledger, zones: tuple[str, ...], homes: Mapping[str, str] | None = None
    ) -> None:
        """`zones` are innermost first; `homes` names the zone of principals not in the last one.

        Raises ConfigError for a home that is no zone beyond the innermost.
        """
        self._ledger = ledger
        self._zones = zones
        self._homes = dict(homes or {})
        self._leases: dict[str, _Lease] = {}
        self._parts: dict[int, _Part] = {}
        self._next = 0
        self._standing: _Lease | None = None
        for principal, zone in self._homes.items():
            if zone not in zones[1:]:
                raise ConfigError(f"{principal} is in zone {zone!r}, which no edge leads to")

    def reserve(self, principal: str, bits: Bits) -> int:
        """Hold `bits` on every edge. Raises BudgetExceededError: nothing was held."""
        lease = self._leases.get(principal)
        if lease is None or lease.free < bits:
            lease = self._grow(principal, bits - (lease.free if lease else 0))
        lease.open += bits
        self._next += 1
        self._parts[self._next] = _Part(lease, bits)
        return self._next

    def extend(self, reservation: int, bits: Bits) -> None:
        """Hold `bits` more. Raises BudgetExceededError."""
        part = self._part(reservation)
        lease = part.lease
        if self._leases.get(lease.principal) is not lease:
            raise LedgerError("the lease of this reservation could not be settled")
        if lease.free < bits:
            self._grow(lease.principal, bits - lease.free)
        lease.open += bits
        part.bits += bits

    def commit(self, reservation: int, bits: Bits) -> None:
        """Of what was held, `bits` crossed; the rest is free again."""
        part = self._part(reservation)
        if not 0 <= bits <= part.bits:
            raise LedgerError("more crossed than was held", held=part.bits, crossed=bits)
        del self._parts[reservation]
        lease = part.lease
        lease.open -= part.bits
        lease.spent += bits
        if lease.spent >= LEASE:
            self._settle(lease)

    def release(self, reservation: int) -> None:
        """Nothing crossed."""
        self.commit(reservation, Bits(0))

    def charge(self, principal: str, bits: Bits, reason: str) -> None:
        """Charge what crossed without being held, whatever the budgets say.

        Raises LedgerError if it can neither be written nor is covered by what stands by.
        """
        edges = self._edges(principal)
        standing = self._standing
        try:
            self._ledger.record(*(Charge(principal, edge, bits, reason) for edge in edges))
        except LedgerError:
            if standing is None or standing.principal != principal or standing.free < bits:
                raise
            # It may be charged twice: the write that failed may have taken place.
            standing.spent += bits
            return
        if standing is not None and (used := standing.spent - standing.renewed):
            # What was used up while the ledger could not be written stands by again.
            with suppress(BudgetExceededError, LedgerError):
                self._ledger.record(*(Extend(number, used) for number in standing.entries))
                standing.held += used
                standing.renewed += used

    def stand_by(self, principal: str, bits: Bits) -> None:
        """Hold `bits` for charges to `principal` while the ledger cannot be written.

        Raises BudgetExceededError or LedgerError.
        """
        edges = self._edges(principal)
        entry = self._ledger.record(*(Reserve(principal, edge, bits) for edge in edges))
        self._standing = _Lease(principal, edges, entry, bits)

    def close(self) -> None:
        """Settle every lease. What is still open stays held: nobody knows how much crossed."""
        for lease in tuple(self._leases.values()):
            self._settle(lease)
        if self._standing is not None:
            spent = self._standing.spent
            with suppress(LedgerError):
                self._ledger.record(*(Commit(n, spent) for n in self._standing.entries))
            self._standing = None

    def _grow(self, principal: str, missing: int) -> _Lease:
        """Hold at least `missing` bits more: with a lease's worth to spare, or bare."""
        try:
            return self._hold(principal, missing + LEASE)
        except BudgetExceededError:
            for lease in tuple(self._leases.values()):
                if lease.principal != principal and lease.free:
                    self._settle(lease)
            return self._hold(principal, missing)

    def _hold(self, principal: str, bits: int) -> _Lease:
        lease = self._leases.get(principal)
        if lease is None:
            edges = self._edges(principal)
            entry = self._ledger.record(*(Reserve(principal, edge, bits) for edge in edges))
            lease = self._leases[principal] = _Lease(principal, edges, entry, bits)
        else:
            self._ledger.record(*(Extend(number, bits) for number in lease.entries))
            lease.held += bits
        return lease

    def _settle(self, lease: _Lease) -> None:
        """Commit what was spent; what streams still hold is reserved anew in the same write."""
        if self._leases.get(lease.principal) is not lease:
            return
        commits = [Commit(number, lease.spent) for number in lease.entries]
        kept = lease.edges if lease.open else ()
        reserves = [Reserve(lease.principal, edge, lease.open) for edge in kept]
        del self._leases[lease.principal]
        try:
            first = self._ledger.record(*commits, *reserves)
        except BudgetExceededError:
            # Incidents overdrew a budget; nothing was written and the lease stays as it is.
            self._leases[lease.principal] = lease
            return
        except LedgerError:
            # Whether or not the write took place, the ledger counts all that this lease is good
            # for. But nobody knows what its reservations are now, so it is not drawn on again.
            return
        if lease.open:
            lease.entry = first + len(commits)
            lease.held, lease.spent = lease.open, 0
            self._leases[lease.principal] = lease

    def _edges(self, principal: str) -> tuple[str, ...]:
        home = self._homes.get(principal, self._zones[-1])
        return edges_along(self._zones[: self._zones.index(home) + 1])

    def _part(self, reservation: int) -> _Part:
        if reservation not in self._parts:
            raise LedgerError("a reservation was settled twice", reservation=reservation)
        return self._parts[reservation]


class LedgerAllowance:
    """`serve.inner.server.Allowance`: the inner half's own cap, taken a lease at a time."""

    def __init__(self, ledger: Ledger, principal: str, edge: str) -> None:
        self._ledger = ledger
        self._principal = principal
        self._edge = edge
        self._lease: Reservation | None = None
        self._used = 0

    def spend(self, bits: Bits) -> None:
        """Take `bits` before they leave.

        Raises BudgetExceededError or LedgerError: nothing may leave then.
        """
        if self._lease is None or self._used + bits > self._lease.bits:
            self.close()
            self._lease = self._renewed(bits)
        self._used += bits

    def close(self) -> None:
        """Settle the lease. Raises LedgerError: it counts in full until the half starts again."""
        lease, used = self._lease, Bits(self._used)
        self._lease, self._used = None, 0
        if lease is not None:
            self._ledger.commit(lease, used)

    def _renewed(self, bits: Bits) -> Reservation:
        try:
            wanted = Bits(max(INNER_LEASE, bits))
            return self._ledger.reserve(self._principal, self._edge, wanted)
        except BudgetExceededError:
            # The last bits of a budget are fewer than a lease.
            return self._ledger.reserve(self._principal, self._edge, bits)
