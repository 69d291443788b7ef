"""Leases of several holders: shared fairly, given back, charged in full when their holder dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tidegate.clock import ManualClock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.ledger import TOTAL, Balance, Budget, Budgets, Fault, Ledger
from tidegate.ledger.errors import InvalidEntryError, NotLentError, SplitBrainError
from tidegate.ledger.lease import LeaseDesk, LeaseTerms
from tidegate.ledger.lease_keeper import LeaseKeeper
from tidegate.ledger.lease_memory import MemoryCluster, SharedMemoryStore
from tidegate.ledger.lease_port import Claim
from tidegate.ledger.state import State
from tidegate.ledger.verify import catch_up
from tidegate.units import Bits

EDGE = "inner→outside"
TERMS = LeaseTerms(
    chunk=100, most=400, standing=20, lasts=30.0, beat=1.0, idle=5.0, patience=0.05, gather=0.001
)


@dataclass
class Holder:
    desk: LeaseDesk
    keeper: LeaseKeeper
    clock: ManualClock
    told: list[str]

    def send(self, bits: int, principal: str = "alice") -> None:
        number = self.desk.reserve(principal, Bits(bits))
        self.desk.commit(number, Bits(bits))

    def lend(self, bits: int, principal: str = "alice") -> None:
        told = self.desk.wait(principal, Bits(bits))
        for _ in range(4):
            self.keeper.round()
        told.result(timeout=0)

    def later(self, seconds: float) -> None:
        """Time passes while this holder goes round."""
        for _ in range(int(2 * seconds)):
            self.clock.advance(0.5)
            self.keeper.round()


Make = Callable[..., Holder]


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def budgets() -> Budgets:
    return Budgets(
        name="t", total=Budget(lifetime=1_000), edges=((EDGE, Budget()),), principal=Budget()
    )


@pytest.fixture
def make(cluster: MemoryCluster, budgets: Budgets) -> Make:
    def made(name: str = "a", patience: float = TERMS.patience) -> Holder:
        clock, told = ManualClock(), list[str]()
        terms = replace(TERMS, patience=patience)
        desk = LeaseDesk(clock, lambda _: (EDGE,), "link", terms)
        store = SharedMemoryStore(cluster, name)
        keeper = LeaseKeeper(desk, store, name, budgets, clock, told.append)
        keeper.round()
        return Holder(desk, keeper, clock, told)

    return made


@pytest.fixture
def total(cluster: MemoryCluster, budgets: Budgets) -> Callable[[], Balance]:
    def balance() -> Balance:
        state = catch_up(cluster.rows, State(budgets))
        return state.account(TOTAL).balance(state.time)

    return balance


def test_streams_draw_on_a_lease_without_a_write_each(make: Make, cluster: MemoryCluster) -> None:
    half = make()
    half.lend(10)
    before = cluster.calls
    for _ in range(10):
        half.send(5)
    assert cluster.calls == before


def test_what_was_spent_is_settled_and_the_rest_goes_back(
    make: Make, total: Callable[[], Balance]
) -> None:
    half = make()
    half.lend(10)
    half.send(7)
    half.keeper.close()
    assert total() == Balance(Bits(7), Bits(0), Bits(993))


def test_a_lease_in_use_is_settled_once_in_a_while_and_not_at_every_beat(
    make: Make, cluster: MemoryCluster, total: Callable[[], Balance]
) -> None:
    half = make()
    half.lend(10)
    before = cluster.rows.tip().size
    for _ in range(20):
        half.send(1)
        half.later(1)
    assert cluster.rows.tip().size == before + 2  # the idle lease of incidents went back
    half.send(1)
    half.later(TERMS.settle - 20)
    assert total().spent == 21


def test_a_lease_that_nobody_uses_goes_back_by_itself(
    make: Make, total: Callable[[], Balance]
) -> None:
    half = make()
    half.lend(10)
    half.later(7)
    assert total().reserved == TERMS.standing


def test_a_holder_that_died_is_charged_in_full_by_another(
    make: Make, total: Callable[[], Balance]
) -> None:
    dead = make("a")
    dead.lend(10)
    held = total().reserved
    other = make("b")
    other.later(60)
    assert total().spent == held
    assert total().reserved == TERMS.standing  # the living one's own
    assert "ledger_lease_reaped" in other.told


def test_a_holder_that_gives_word_is_left_alone_whatever_its_clocks_say(
    make: Make, total: Callable[[], Balance]
) -> None:
    slow, other = make("a"), make("b")
    slow.lend(10)
    slow.clock.jump(-(10**6))
    other.clock.jump(10**9)
    for _ in range(100):
        slow.keeper.round()
        slow.clock.advance(1.0)
        other.later(10)  # its clock runs ten times as fast
    assert "ledger_lease_reaped" not in other.told
    assert slow.told == []
    assert total().spent == 0


def test_a_holder_without_an_answer_stops_before_others_take_it_for_dead(
    make: Make, cluster: MemoryCluster
) -> None:
    half = make()
    half.lend(10)
    cluster.down = True
    half.later(TERMS.drawn_for - 2)
    half.send(1)
    half.later(2)
    with pytest.raises(NotLentError) as caught:
        half.send(1)
    assert caught.value.details["retry_after_s"] == TERMS.patience
    assert not half.desk.live()
    cluster.down = False
    half.later(1)
    half.lend(10)
    half.send(1)


def test_a_holder_that_was_fenced_off_drops_its_leases_and_joins_anew(
    make: Make, total: Callable[[], Balance]
) -> None:
    old = make("a")
    old.lend(50)
    number = old.desk.reserve("alice", Bits(50))
    before = total()
    make("a")
    assert total().spent == before.reserved
    old.clock.advance(2)
    old.keeper.round()
    assert old.told == ["ledger_fenced"]
    with pytest.raises(LedgerError, match="charged in full"):
        old.desk.extend(number, Bits(1))
    old.desk.commit(number, Bits(50))  # it may have crossed, and was charged
    old.later(4)
    old.lend(10)
    old.send(10)
    old.desk.charge("link", Bits(15), "link_closed")  # stands by for incidents again


def test_two_halves_with_one_name_do_not_fence_each_other_for_ever(make: Make) -> None:
    first, second = make("a"), make("a")
    for _ in range(40):
        for half in (first, second):
            half.later(1)
    assert first.told == ["ledger_fenced"]
    assert second.told == ["ledger_lease_reaped"]
    second.lend(10)
    with pytest.raises(NotLentError):
        first.send(1)
    second.keeper.close()
    first.later(4)
    first.lend(10)


def test_refused_bits_come_back_from_a_holder_that_does_not_need_them(
    make: Make, total: Callable[[], Balance]
) -> None:
    rich, poor = make("a"), make("b", patience=10)
    rich.lend(800)
    told = poor.desk.wait("bob", Bits(500))
    for _ in range(8):
        for half in (poor, rich):
            half.clock.advance(0.5)
            half.keeper.round()
    told.result(timeout=0)
    poor.send(500, "bob")


def test_a_refusal_is_believed_once_nobody_else_could_give_back(make: Make) -> None:
    half = make()
    with pytest.raises(BudgetExceededError):
        half.lend(2_000)
    half.lend(900)


def test_the_last_bits_of_a_budget_are_lent_though_they_are_less_than_a_lease(make: Make) -> None:
    half = make()
    half.lend(940)
    number = half.desk.reserve("alice", Bits(940))
    half.lend(30, "bob")
    half.desk.commit(number, Bits(940))


def test_an_incident_is_covered_by_what_stands_by_and_written_down(
    make: Make, cluster: MemoryCluster, total: Callable[[], Balance]
) -> None:
    half = make()
    half.keeper.round()
    cluster.down = True
    half.desk.charge("link", Bits(15), "link_closed")
    with pytest.raises(LedgerError, match="in time"):
        half.desk.charge("link", Bits(10**6), "link_closed")
    assert total().reserved >= 15
    cluster.down = False
    half.later(2)
    assert total().spent == 15 + 10**6
    reasons = [row.entry for row in cluster.rows.read(0, 100)]
    assert sum(b'"reason":"link_closed"' in entry for entry in reasons) == 2


def test_a_close_right_after_an_incident_leaves_nothing_held(
    make: Make, total: Callable[[], Balance]
) -> None:
    half = make()
    half.keeper.round()
    half.desk.charge("link", Bits(15), "link_closed")
    half.keeper.close()
    assert (total().spent, total().reserved) == (15, 0)


def test_a_second_server_stops_the_drawing_and_is_told_once(
    make: Make, cluster: MemoryCluster
) -> None:
    half = make()
    half.lend(10)
    cluster.split = SplitBrainError("Two servers.")
    half.later(14)
    with pytest.raises(NotLentError):
        half.send(1)
    assert half.told == ["ledger_split_brain"]
    cluster.split = None
    half.later(2)
    half.send(1)


def test_a_log_that_was_rewritten_stops_the_drawing(make: Make, cluster: MemoryCluster) -> None:
    half = make()
    half.lend(10)
    cluster.rows._rows[1] = cluster.rows._rows[0]
    fresh = make("b")
    assert InvalidEntryError.code in fresh.told
    with pytest.raises(NotLentError):
        fresh.send(1)


@pytest.mark.parametrize("fault", Fault)
def test_a_write_in_doubt_is_looked_up_and_not_done_twice(
    make: Make, cluster: MemoryCluster, total: Callable[[], Balance], fault: Fault
) -> None:
    half = make()
    half.lend(10)
    half.send(60)
    cluster.fault = lambda _: fault
    half.keeper.round()
    cluster.fault = lambda _: None
    half.later(2)
    half.keeper.close()
    assert total().spent == 60


def test_what_an_earlier_start_held_is_not_taken_for_a_write_that_took_place(
    make: Make, cluster: MemoryCluster, budgets: Budgets, total: Callable[[], Balance]
) -> None:
    half = make()
    half.lend(10)
    half.send(60)
    left = Ledger(cluster.rows, budgets, ManualClock()).reserve("bob", EDGE, Bits(70))
    cluster.claims[left.id] = Claim(left.id, "a", 0)
    half.desk.wait("bob", Bits(10))
    cluster.fault = lambda _: Fault.NOT_PERSISTED
    half.keeper.round()
    cluster.fault = lambda _: None
    half.later(8)
    half.keeper.close()
    assert total().spent == 60 + 70


def test_a_name_that_the_log_cannot_hold_is_refused_before_it_spoils_a_write(make: Make) -> None:
    half = make()
    with pytest.raises(LedgerError, match="name"):
        half.desk.reserve('a"b', Bits(1))
    with pytest.raises(LedgerError, match="name"):
        half.desk.wait("a\nb", Bits(1))
    half.lend(10)


def test_a_reservation_is_settled_once_and_at_most_at_what_it_holds(make: Make) -> None:
    half = make()
    half.lend(50)
    number = half.desk.reserve("alice", Bits(20))
    with pytest.raises(LedgerError, match="More crossed"):
        half.desk.commit(number, Bits(21))
    half.desk.release(number)
    with pytest.raises(LedgerError, match="twice"):
        half.desk.commit(number, Bits(1))


def test_what_nobody_claims_is_charged_in_full_by_the_first_that_joins(
    cluster: MemoryCluster, budgets: Budgets, make: Make, total: Callable[[], Balance]
) -> None:
    Ledger(cluster.rows, budgets, ManualClock()).reserve("alice", EDGE, Bits(70))
    make()
    assert total().spent == 70
