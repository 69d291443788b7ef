"""From what leases ask for to commands, and from what the log then holds back to leases; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tidegate.errors import BudgetExceededError
from tidegate.ledger.entries import Charge, Command, Commit, Extend, Reserve, plain
from tidegate.ledger.lease import Ask, Lease
from tidegate.ledger.state import Reservation, Row, State, decide
from tidegate.units import Bits


@dataclass(frozen=True, slots=True)
class Written:
    """A write as tried: each ask with the bits it was `granted` and where its rows begin."""

    places: tuple[tuple[Ask, int, int], ...]
    refused: tuple[tuple[str, BudgetExceededError], ...]


class Batch:
    """`Ledger.carry_out`'s step for several asks, all in one write.

    `lenient`: an ask that the budgets cannot cover gets as much as is fair among `holders`, or what
    it needs, or no more than it has; else the first refusal is raised and nothing is written.
    """

    def __init__(self, asks: Sequence[Ask], *, lenient: bool, holders: int) -> None:
        self._asks = asks
        self._lenient = lenient
        self._holders = holders
        self.written = Written((), ())

    def __call__(self, state: State, time: int, wall: int) -> tuple[State, tuple[Row, ...]]:
        """The state and rows after every ask; remembers what each got. Raises as `decide`."""
        places: list[tuple[Ask, int, int]] = []
        if not self._lenient:
            does: list[Command] = []
            for ask in self._asks:
                places.append((ask, ask.more, len(does)))
                does += commands(ask, ask.more)
            self.written = Written(tuple(places), ())
            return decide(state, does, time=time, wall=wall)
        rows: list[Row] = []
        refused: list[tuple[str, BudgetExceededError]] = []
        for ask in self._asks:
            for amount in self._amounts(ask, state, time):
                try:
                    after, more = decide(state, commands(ask, amount), time=time, wall=wall)
                except BudgetExceededError as error:
                    if amount == ask.least:
                        refused.append((ask.lease.principal, error))
                    continue
                places.append((ask, amount, len(rows)))
                state = after
                rows.extend(more)
                break
        self.written = Written(tuple(places), tuple(refused))
        return state, tuple(rows)

    def _amounts(self, ask: Ask, state: State, time: int) -> Iterable[int]:
        """From what it would like to nothing, each once."""
        lefts = [
            state.account(scope).balance(time).left
            for edge in ask.lease.edges
            for scope in Reservation(0, ask.lease.principal, edge, Bits(0)).scopes
        ]
        # In `total` every edge counts anew.
        left = min((x for x in lefts if x is not None), default=ask.more) // len(ask.lease.edges)
        fair = min(ask.more, max(ask.least, left // (2 * self._holders)))
        return dict.fromkeys((ask.more, fair, ask.least, 0))


def commands(ask: Ask, more: int) -> list[Command]:
    """What carries out `ask` with `more` bits on top."""
    lease = ask.lease
    rest = lease.held - ask.spent - ask.returning + more
    does: list[Command] = []
    if lease.entries and not (ask.spent or ask.returning):
        if more:
            does += [Extend(n, more) for n in lease.entries]
    else:
        does += [Commit(n, ask.spent) for n in lease.entries]
        if rest:
            does += [Reserve(lease.principal, edge, rest) for edge in lease.edges]
    for bits, reason in ask.owed:
        does += [Charge(lease.principal, edge, bits, plain(reason)) for edge in lease.edges]
    return does


def entries_after(ask: Ask, granted: int, first: int) -> tuple[int, ...]:
    """The lease's entries once `commands(ask, granted)` stand in the log from number `first`."""
    lease = ask.lease
    if lease.entries and not (ask.spent or ask.returning):
        return lease.entries
    opened = first + len(lease.entries)
    rest = lease.held - ask.spent - ask.returning + granted
    return tuple(range(opened, opened + len(lease.edges))) if rest else ()


Held = Mapping[tuple[str, str], Reservation]
"""A holder's reservations by principal and edge: it never has two of the same."""


def found(lease: Lease, held: Held) -> tuple[Reservation, ...]:
    """The lease's reservations as the log has them; none where one is lacking."""
    mine = [held.get((lease.principal, edge)) for edge in lease.edges]
    return tuple(one for one in mine if one is not None) if None not in mine else ()


def took_place(asks: Sequence[Ask], held: Held) -> bool:
    """Whether a write of `asks`, all or none, is in the log; where nothing tells, it is not.

    Then incidents are written once more: counted twice rather than not at all.
    """
    for ask in asks:
        lease, now = ask.lease, found(ask.lease, held)
        entries = tuple(one.id for one in now)
        if entries != lease.entries:
            return True
        if now and now[0].bits != lease.held:
            return True
    return False
