"""The ledger's pure core: `decide(state, commands) -> (state, rows)`, and the fold that replays.

What a running ledger holds and what a restart computes come from the same `Fold.take`, so a log
that replays is a log that was lived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tidegate.errors import LedgerError, TidegateError
from tidegate.ledger.accounts import Account, wait_of
from tidegate.ledger.budgets import TOTAL, Budgets, Scope, edge_scope, principal_scope
from tidegate.ledger.entries import (
    GENESIS,
    Charge,
    Command,
    Commit,
    Entry,
    Extend,
    Open,
    Recover,
    Release,
    Reserve,
    TopUp,
    encode,
    next_head,
    parse,
)
from tidegate.ledger.errors import InvalidEntryError
from tidegate.transparency.tree import Frontier, frontier_root, grow, leaf_hash
from tidegate.units import Bits


@dataclass(frozen=True, slots=True)
class Reservation:
    """Bits held before they leave. `id` is the number of the entry that opened it."""

    id: int
    principal: str
    edge: str
    bits: Bits

    @property
    def scopes(self) -> tuple[Scope, Scope, Scope]:
        """The three accounts that carry it."""
        return _scopes(self.principal, self.edge)


class Tip(NamedTuple):
    """The end of a log: how many entries, and the chain's head after the last."""

    size: int
    head: bytes


EMPTY = Tip(0, GENESIS)
"""The end of a log that holds nothing."""


class Row(NamedTuple):
    """One stored entry and the chain's head after it."""

    entry: bytes
    head: bytes


@dataclass(frozen=True, slots=True)
class State:
    """All that deciding needs; grows with accounts and open reservations, never with the log."""

    budgets: Budgets
    tip: Tip = EMPTY
    time: int = 0
    frontier: Frontier = ()
    accounts: dict[Scope, Account] = field(default_factory=dict)
    held: dict[int, Reservation] = field(default_factory=dict)

    @property
    def root(self) -> bytes:
        """The Merkle root over every entry so far."""
        return frontier_root(self.frontier)

    def account(self, scope: Scope) -> Account:
        """The account of `scope`, empty if nothing touched it yet."""
        return self.accounts.get(scope) or Account.new(scope, self.budgets.of(scope))


def decide(
    state: State, commands: Iterable[Command], *, time: int, wall: int
) -> tuple[State, tuple[Row, ...]]:
    """Carry out `commands` together or not at all.

    Args:
        state: as after the last entry of the log.
        commands: what to do, in order.
        time: ledger milliseconds, as `Ledger` computes them; a smaller value than the log's last
            counts as the log's last.
        wall: milliseconds since the Unix epoch, for people.

    Returns:
        The state after, and one row a command to append. Nothing happened until a store has them.

    Raises:
        BudgetExceededError: a cap cannot cover a reservation.
        LedgerError: an unknown edge, scope or reservation, more committed than held, or a field
            that cannot be recorded.
    """
    fold = Fold(state)
    rows = []
    for command in commands:
        now = max(fold.time, time)
        refused = fold.refusal(command, now)
        if refused is not None:
            raise refused
        raw = encode(Entry(n=fold.size, time=now, wall=wall, does=command))
        fold.take(raw)
        rows.append(Row(raw, fold.head))
    return fold.state(), tuple(rows)


class Fold:
    """A private working copy of a state, moved on entry by entry."""

    def __init__(self, state: State) -> None:
        self._budgets = state.budgets
        self.size, self.head = state.tip
        self.time = state.time
        self.frontier = state.frontier
        self._accounts = dict(state.accounts)
        self._held = dict(state.held)

    def state(self) -> State:
        """The state reached; call it last."""
        tip = Tip(self.size, self.head)
        return State(self._budgets, tip, self.time, self.frontier, self._accounts, self._held)

    def refusal(self, command: Command, now: int) -> TidegateError | None:
        """Why the budgets do not allow `command` at ledger time `now`; None if they do."""
        match command:
            case Reserve(principal=principal, edge=edge, bits=bits):
                return self._refused(principal, edge, bits, now)
            case Extend(reservation=n, bits=bits) if n in self._held:
                held = self._held[n]
                return self._refused(held.principal, held.edge, bits, now)
            case Charge(edge=edge) if not self._budgets.has_edge(edge):
                return LedgerError(f"No edge {edge!r} is configured.")
            case TopUp(scope=scope) if not self._known(scope):
                return LedgerError(f"There is no account {scope!r} to top up.")
        return None

    def take(self, raw: bytes) -> None:
        """Move on by one entry of the log.

        Raises:
            InvalidEntryError: the entry breaks a rule; the fold must then be dropped.
        """
        n = self.size
        entry = parse(raw, n)
        if entry.time < self.time:
            raise InvalidEntryError(f"Entry {n} goes back in time", entry=n)
        self.time = entry.time
        self._do(entry)
        self.head = next_head(self.head, raw)
        self.frontier = grow(self.frontier, n, leaf_hash(raw))
        self.size = n + 1

    def _do(self, entry: Entry) -> None:
        match entry.does:
            case Reserve(principal=principal, edge=edge, bits=bits):
                held = Reservation(entry.n, principal, edge, Bits(bits))
                self._held[entry.n] = held
                self._hold(held, bits)
            case Extend(reservation=n, bits=bits):
                held = self._find(n, entry)
                self._held[n] = Reservation(n, held.principal, held.edge, Bits(held.bits + bits))
                self._hold(held, bits)
            case Commit(reservation=n, bits=bits) | Recover(reservation=n, bits=bits):
                self._settle(n, bits, entry)
            case Release(reservation=n):
                self._settle(n, 0, entry)
            case Charge(principal=principal, edge=edge, bits=bits):
                self._spend(_scopes(principal, edge), bits)
            case TopUp(scope=scope, bits=bits):
                account = self._account(Scope(scope))
                self._accounts[account.scope] = account.top_up(self.time, bits)
            case Open():
                pass

    def _settle(self, n: int, bits: int, entry: Entry) -> None:
        held = self._find(n, entry)
        if bits > held.bits:
            raise InvalidEntryError(
                f"Entry {entry.n} settles {bits} bits of reservation {n}, which holds {held.bits}",
                entry=entry.n,
            )
        del self._held[n]
        self._hold(held, -held.bits)
        if bits:
            self._spend(held.scopes, bits)

    def _find(self, n: int, entry: Entry) -> Reservation:
        if n not in self._held:
            raise InvalidEntryError(
                f"Entry {entry.n} names reservation {n}, which is not open", entry=entry.n
            )
        return self._held[n]

    def _hold(self, held: Reservation, bits: int) -> None:
        for scope in held.scopes:
            self._accounts[scope] = self._account(scope).hold(bits)

    def _spend(self, scopes: Sequence[Scope], bits: int) -> None:
        for scope in scopes:
            self._accounts[scope] = self._account(scope).spend(self.time, bits)

    def _account(self, scope: Scope) -> Account:
        return self._accounts.get(scope) or Account.new(scope, self._budgets.of(scope))

    def _refused(self, principal: str, edge: str, bits: int, now: int) -> TidegateError | None:
        if not self._budgets.has_edge(edge):
            return LedgerError(f"No edge {edge!r} is configured.")
        refusals = [self._account(scope).refusal(now, bits) for scope in _scopes(principal, edge)]
        return max((r for r in refusals if r is not None), key=wait_of, default=None)

    def _known(self, scope: str) -> bool:
        kind, colon, name = scope.partition(":")
        if kind == "edge":
            return self._budgets.has_edge(name)
        return scope == TOTAL or (kind == "principal" and bool(colon and name))


def _scopes(principal: str, edge: str) -> tuple[Scope, Scope, Scope]:
    return principal_scope(principal), edge_scope(edge), TOTAL
