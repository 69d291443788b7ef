"""Whatever callers do and however clocks move: caps hold, nothing is lost, and the log replays."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tidegate.clock import ManualClock
from tidegate.errors import BudgetExceededError
from tidegate.ledger import (
    TOTAL,
    Budget,
    Budgets,
    Ledger,
    MemoryStore,
    Reservation,
    Rolling,
    Scope,
    Sound,
    edge_scope,
    principal_scope,
)

EDGES = ("inner→intermediate", "intermediate→outside")
PRINCIPALS = ("alice", "bob")
WINDOW_S, WINDOW_BITS = 60, 300
LIFETIME = 2_000
BUDGETS = Budgets(
    name="property",
    total=Budget(lifetime=LIFETIME, windows=(Rolling(WINDOW_S, WINDOW_BITS),)),
    edges=((EDGES[0], Budget()), (EDGES[1], Budget(windows=(Rolling(WINDOW_S, 200),)))),
    principal=Budget(lifetime=1_500),
)
SCOPES = (TOTAL, *map(edge_scope, EDGES), *map(principal_scope, PRINCIPALS))

Use = tuple[str, str]
"""Principal and edge."""

uses = st.tuples(st.sampled_from(PRINCIPALS), st.sampled_from(EDGES))
amounts = st.integers(0, 120)
picks = st.integers(0, 50)


class Life(RuleBasedStateMachine):
    """Two writers on one store, beside a model that only adds up."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.ledgers = [Ledger(self.store, BUDGETS, self.clock) for _ in range(2)]
        self.held: dict[int, tuple[Use, int]] = {}
        self.spent: list[tuple[float, Use, int]] = []
        self.overdrawn = 0

    def _spend(self, use: Use, bits: int) -> None:
        self.spent.append((self.clock.monotonic(), use, bits))

    def _pick(self, pick: int) -> int | None:
        return sorted(self.held)[pick % len(self.held)] if self.held else None

    @rule(use=uses, bits=amounts, writer=st.booleans())
    def reserve(self, use: Use, bits: int, writer: bool) -> None:
        try:
            held = self.ledgers[writer].reserve(*use, bits)
        except BudgetExceededError:
            return
        self.held[held.id] = (use, bits)

    @rule(pick=picks, bits=amounts, writer=st.booleans())
    def extend(self, pick: int, bits: int, writer: bool) -> None:
        n = self._pick(pick)
        held = None if n is None else self._reservation(n, writer)
        if n is None or held is None:
            return
        try:
            self.ledgers[writer].extend(held, bits)
        except BudgetExceededError:
            return
        use, before = self.held[n]
        self.held[n] = (use, before + bits)

    @rule(pick=picks, share=st.integers(0, 4), how=st.sampled_from(["commit", "recover"]))
    def settle(self, pick: int, share: int, how: str) -> None:
        n = self._pick(pick)
        if n is None:
            return
        use, bits = self.held.pop(n)
        held = self._reservation(n, False)
        assert held is not None
        used = bits * share // 4
        if how == "commit":
            self.ledgers[0].commit(held, used)
        else:
            self.ledgers[1].recover(held, used, "writer died")
        self._spend(use, used)

    @rule(pick=picks)
    def release(self, pick: int) -> None:
        n = self._pick(pick)
        if n is not None:
            del self.held[n]
            held = self._reservation(n, True)
            assert held is not None
            self.ledgers[1].release(held)

    @rule(use=uses)
    def incident(self, use: Use) -> None:
        self.ledgers[0].charge(*use, 64, "link closed")
        self._spend(use, 64)
        self.overdrawn += 64

    @rule(seconds=st.integers(0, 90))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.integers(-(10**6), 10**6))
    def the_wall_clock_jumps(self, seconds: int) -> None:
        self.clock.jump(seconds)

    @rule(writer=st.booleans())
    def restart(self, writer: bool) -> None:
        self.ledgers[writer] = Ledger(self.store, BUDGETS, self.clock)

    def _reservation(self, n: int, writer: bool) -> Reservation | None:
        return {held.id: held for held in self.ledgers[writer].held()}.get(n)

    def _carries(self, scope: Scope, use: Use) -> bool:
        return scope in (TOTAL, principal_scope(use[0]), edge_scope(use[1]))

    @invariant()
    def balances_are_the_sums(self) -> None:
        for scope in SCOPES:
            spent = sum(bits for _, use, bits in self.spent if self._carries(scope, use))
            held = sum(bits for use, bits in self.held.values() if self._carries(scope, use))
            for ledger in self.ledgers:
                balance = ledger.balance(scope)
                assert (balance.spent, balance.reserved) == (spent, held)

    @invariant()
    def caps_hold_but_for_incidents(self) -> None:
        now = self.clock.monotonic()
        held = sum(bits for _, bits in self.held.values())
        ever = sum(bits for _, _, bits in self.spent)
        recent = sum(bits for time, _, bits in self.spent if now - time < WINDOW_S)
        assert ever + held <= LIFETIME + self.overdrawn
        assert recent + held <= WINDOW_BITS + self.overdrawn

    @invariant()
    def the_log_replays(self) -> None:
        for ledger in self.ledgers:
            assert isinstance(ledger.verify(), Sound)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
