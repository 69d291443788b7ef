"""The ledger as the two halves need it: for one row of zones, durable before anything leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.errors import BudgetExceededError, ConfigError
from tidegate.ledger import (
    Charge,
    Commit,
    Extend,
    Ledger,
    Release,
    Reserve,
)
from tidegate.ledger.budgets import edges_along
from tidegate.ledger.state import Reservation
from tidegate.units import Bits

LEASE = Bits(1 << 14)
"""Bits the inner half reserves at a time: one durable write for 2 KiB of frames. A crash loses at
most one lease, and on the safe side."""


@dataclass(slots=True)
class LedgerPurse:
    """`serve.outer.link_account.Purse`: a charge falls on every edge up to the principal's zone.

    `zones` are innermost first; `homes` names the zone of principals that are not in the last one.
    """

    ledger: Ledger
    zones: tuple[str, ...]
    homes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ConfigError for a home that is no zone beyond the innermost."""
        for principal, zone in self.homes.items():
            if zone not in self.zones[1:]:
                raise ConfigError(f"{principal} is in zone {zone!r}, which no edge leads to")

    def reserve(self, principal: str, bits: Bits) -> int:
        """Hold `bits` on every edge at once. Raises BudgetExceededError: nothing was held."""
        edges = self._edges(principal)
        return self.ledger.record(*(Reserve(principal, edge, bits) for edge in edges))

    def extend(self, reservation: int, bits: Bits) -> None:
        """Hold `bits` more. Raises BudgetExceededError."""
        self.ledger.record(*(Extend(held.id, bits) for held in self._held(reservation)))

    def commit(self, reservation: int, bits: Bits) -> None:
        """Charge `bits` on every edge; the rest is free again."""
        self.ledger.record(*(Commit(held.id, bits) for held in self._held(reservation)))

    def release(self, reservation: int) -> None:
        """Nothing crossed."""
        self.ledger.record(*(Release(held.id) for held in self._held(reservation)))

    def charge(self, principal: str, bits: Bits, reason: str) -> None:
        """Charge what crossed without being held, whatever the budgets say."""
        edges = self._edges(principal)
        self.ledger.record(*(Charge(principal, edge, bits, reason) for edge in edges))

    def _edges(self, principal: str) -> tuple[str, ...]:
        home = self.homes.get(principal, self.zones[-1])
        return edges_along(self.zones[: self.zones.index(home) + 1])

    def _held(self, first: int) -> list[Reservation]:
        """A reservation's parts, one an edge: they were recorded one after the other."""
        head = self.ledger.reservation(first)
        if head is None:
            raise ConfigError("a reservation was settled twice", reservation=first)
        parts = [head]
        for offset in range(1, len(self._edges(head.principal))):
            part = self.ledger.reservation(first + offset)
            if part is not None:
                parts.append(part)
        return parts


class LedgerAllowance:
    """`serve.inner.server.Allowance`: the inner half's own cap, taken a lease at a time."""

    def __init__(self, ledger: Ledger, principal: str, edge: str) -> None:
        self._ledger = ledger
        self._principal = principal
        self._edge = edge
        self._lease: Reservation | None = None
        self._used = 0

    def spend(self, bits: Bits) -> None:
        """Take `bits` before they leave. Raises BudgetExceededError; nothing may leave then."""
        if self._lease is None or self._used + bits > self._lease.bits:
            self._renew(bits)
        self._used += bits

    def _renew(self, bits: Bits) -> None:
        if self._lease is not None:
            self._ledger.commit(self._lease, Bits(self._used))
            self._lease, self._used = None, 0
        try:
            self._lease = self._ledger.reserve(self._principal, self._edge, Bits(max(LEASE, bits)))
        except BudgetExceededError:
            # The last bits of a budget are fewer than a lease.
            self._lease = self._ledger.reserve(self._principal, self._edge, bits)
