"""Several holders over one ledger whose writes break in every way: no bit ever goes uncharged."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tidegate.clock import ManualClock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.ledger import (
    Budget,
    Budgets,
    Fault,
    Sound,
    principal_scope,
    verify,
)
from tidegate.ledger.budgets import edges_along
from tidegate.ledger.lease import LeaseDesk, LeaseTerms
from tidegate.ledger.lease_keeper import LeaseKeeper
from tidegate.ledger.lease_memory import MemoryCluster, SharedMemoryStore
from tidegate.ledger.state import State
from tidegate.ledger.verify import catch_up
from tidegate.units import Bits

OWN = "link"
TERMS = LeaseTerms(
    chunk=64, most=512, standing=16, lasts=10.0, beat=1.0, settle=1.0, idle=3.0, patience=0.0
)
NAMES = ("outer-a", "outer-b", "outer-c")
PRINCIPALS = ("alice", "bob", OWN)


@dataclass
class Outer:
    """An outer half: what its streams hold and what has truly crossed by its hand."""

    desk: LeaseDesk
    keeper: LeaseKeeper
    clock: ManualClock
    open: dict[int, tuple[str, int]] = field(default_factory=dict)


class Holders(RuleBasedStateMachine):
    @initialize(cap=st.sampled_from([200, 2_000, 10**6]), zones=st.sampled_from([2, 3]))
    def begin(self, cap: int, zones: int) -> None:
        self.edges = edges_along(("inner", "middle", "outside")[3 - zones :])
        self.budgets = Budgets(
            name="t",
            total=Budget(lifetime=cap * len(self.edges)),
            edges=tuple((edge, Budget()) for edge in self.edges),
            principal=Budget(lifetime=cap * len(self.edges)),
        )
        self.faults: list[Fault | None] = []
        self.cluster = MemoryCluster(lambda _: self.faults.pop() if self.faults else None)
        self.state = State(self.budgets)
        self.crossed = dict.fromkeys(PRINCIPALS, 0)
        self.outers: dict[str, Outer] = {}
        for name in NAMES[:2]:
            self.make(name, f"{name}, first")

    def make(self, name: str, label: str) -> None:
        # Each on a clock of its own, which no other's has to agree with.
        clock = ManualClock(1e9 * (1 + NAMES.index(name)))
        desk = LeaseDesk(clock, lambda _: self.edges, OWN, TERMS)
        store = SharedMemoryStore(self.cluster, name)
        keeper = LeaseKeeper(desk, store, name, self.budgets, clock)
        with suppress(LedgerError):
            keeper._join()
            self.outers[label] = Outer(desk, keeper, clock)

    @rule(name=st.sampled_from(NAMES), label=st.sampled_from(("first", "second")))
    def start(self, name: str, label: str) -> None:
        """Also while another goes by that name: it is fenced off, and what it holds is charged."""
        if f"{name}, {label}" not in self.outers:
            self.make(name, f"{name}, {label}")

    @precondition(lambda self: self.outers)
    @rule(
        data=st.data(),
        principal=st.sampled_from(PRINCIPALS),
        bits=st.integers(1, 150),
        faults=st.lists(st.sampled_from([None, *Fault]), max_size=3),
    )
    def reserve(
        self, data: st.DataObject, principal: str, bits: int, faults: list[Fault | None]
    ) -> None:
        outer = self.pick(data)
        for rounds in (0, 1, 3):
            for _ in range(rounds):
                outer.keeper.round()
            with suppress(BudgetExceededError, LedgerError):
                outer.open[outer.desk.reserve(principal, Bits(bits))] = principal, bits
                return
            self.faults = faults

    @precondition(lambda self: any(outer.open for outer in self.outers.values()))
    @rule(data=st.data(), more=st.integers(1, 80), share=st.integers(0, 4), again=st.booleans())
    def spend(self, data: st.DataObject, more: int, share: int, again: bool) -> None:
        outer = data.draw(st.sampled_from([o for o in self.outers.values() if o.open]))
        number = data.draw(st.sampled_from(sorted(outer.open)))
        principal, bits = outer.open[number]
        if again:
            with suppress(BudgetExceededError, LedgerError):
                outer.desk.extend(number, Bits(more))
                outer.open[number] = principal, bits + more
            return
        used = bits * share // 4
        del outer.open[number]
        self.crossed[principal] += used
        outer.desk.commit(number, Bits(used))

    @precondition(lambda self: self.outers)
    @rule(data=st.data(), bits=st.integers(1, 40))
    def incident(self, data: st.DataObject, bits: int) -> None:
        """Bits that have crossed already; told only if the desk takes them on."""
        outer = self.pick(data)
        with suppress(LedgerError):
            outer.desk.charge(OWN, Bits(bits), "closed")
            self.crossed[OWN] += bits

    @precondition(lambda self: self.outers)
    @rule(data=st.data(), rounds=st.integers(1, 3))
    def rounds(self, data: st.DataObject, rounds: int) -> None:
        for _ in range(rounds):
            self.pick(data).keeper.round()

    @rule(faults=st.lists(st.sampled_from([None, *Fault]), min_size=1, max_size=4))
    def break_writes(self, faults: list[Fault | None]) -> None:
        self.faults = faults

    @rule()
    def database_is_gone_for_a_while(self) -> None:
        self.cluster.down = True
        for outer in self.outers.values():
            outer.keeper.round()
        self.cluster.down = False

    @rule()
    def a_write_is_given_up_on(self) -> None:
        """And takes place after all, unless another was first."""
        due = [True]
        self.cluster.delay = lambda _: bool(due and due.pop())

    @rule()
    def what_was_given_up_on_lands(self) -> None:
        self.cluster.land()

    @precondition(lambda self: self.outers)
    @rule(data=st.data(), seconds=st.sampled_from([0.5, 2.0, 9.0, 30.0]))
    def time_passes_for_one(self, data: st.DataObject, seconds: float) -> None:
        self.pick(data).clock.advance(seconds)

    @precondition(lambda self: self.outers)
    @rule(data=st.data(), offset=st.sampled_from([-1e6, 1e6]))
    def wall_clock_is_set(self, data: st.DataObject, offset: float) -> None:
        self.pick(data).clock.jump(offset)

    @precondition(lambda self: self.outers)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """kill -9: what its streams hold may have crossed."""
        name = data.draw(st.sampled_from(sorted(self.outers)))
        for principal, bits in self.outers.pop(name).open.values():
            self.crossed[principal] += bits

    @precondition(lambda self: self.outers)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.outers)))
        outer = self.outers.pop(name)
        for number, (principal, bits) in outer.open.items():
            self.crossed[principal] += bits
            outer.desk.commit(number, Bits(bits))
        outer.keeper.close()

    @invariant()
    def nothing_is_uncharged(self) -> None:
        if not hasattr(self, "cluster"):
            return
        self.state = state = catch_up(self.cluster.rows, self.state)
        for principal in PRINCIPALS:
            account = state.account(principal_scope(principal))
            out = self.crossed[principal]
            for outer in self.outers.values():
                out += sum(bits for owner, bits in outer.open.values() if owner == principal)
                # Not only what was drawn: whatever could be drawn next has to be counted already.
                leases = [x for x in outer.desk.leases() if x.principal == principal]
                out += sum(max(0, lease.free) for lease in leases)
            assert account.spent + account.reserved >= out * len(self.edges)

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            assert isinstance(verify(self.cluster.rows, self.budgets), Sound)

    def pick(self, data: st.DataObject) -> Outer:
        return self.outers[data.draw(st.sampled_from(sorted(self.outers)))]


TestHolders = Holders.TestCase
TestHolders.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
