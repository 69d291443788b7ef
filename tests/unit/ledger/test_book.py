from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tidegate.clock import ManualClock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.ledger import (
    CLOSE_BITS,
    TOTAL,
    Balance,
    Budget,
    Budgets,
    Commit,
    Extend,
    InvalidEntryError,
    Ledger,
    MemoryStore,
    Reserve,
    Rolling,
    edge_scope,
    principal_scope,
)
from tidegate.ledger.state import Row
from tidegate.ledger.window import BUCKETS

EDGE = "inner→outside"
HOUR = 3_600
LATEST = HOUR + -(-HOUR // BUCKETS)
"""Seconds after which an hour's window must have let go."""

Opener = Callable[[Budgets], Ledger]


def edge_cap(bits: int, lifetime: int | None = None) -> Budgets:
    budget = Budget(lifetime=lifetime, windows=(Rolling(HOUR, bits),))
    return Budgets(name="test", total=Budget(), edges=((EDGE, budget),), principal=Budget())


def spend(ledger: Ledger, bits: int) -> None:
    ledger.commit(ledger.reserve("alice", EDGE, bits), bits)


def test_a_charge_is_on_the_edge_the_principal_and_the_total(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(1_000))
    held = ledger.reserve("alice", EDGE, 100)
    for scope in (TOTAL, principal_scope("alice")):
        assert ledger.balance(scope) == Balance(0, 100, None)
    assert ledger.balance(edge_scope(EDGE)) == Balance(0, 100, 900)
    ledger.commit(held, 60)
    assert ledger.balance(edge_scope(EDGE)) == Balance(60, 0, 940)
    assert ledger.balance(principal_scope("alice")) == Balance(60, 0, None)
    assert ledger.balance(principal_scope("bob")) == Balance(0, 0, None)


def test_each_edge_of_three_zones_has_its_own_cap(open_ledger: Opener) -> None:
    inner, outer = "inner→intermediate", "intermediate→outside"
    budgets = Budgets(
        name="zones",
        total=Budget(lifetime=1_000),
        edges=((inner, Budget(lifetime=500)), (outer, Budget(lifetime=50))),
        principal=Budget(),
    )
    ledger = open_ledger(budgets)
    ledger.reserve("researcher", inner, 400)
    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve("researcher", outer, 60)
    assert caught.value.details["scope"] == f"edge:{outer}"
    ledger.reserve("researcher", outer, 50)


def test_one_principals_spent_budget_leaves_others_alone(open_ledger: Opener) -> None:
    budgets = Budgets(
        name="test",
        total=Budget(),
        edges=((EDGE, Budget()),),
        principal=Budget(lifetime=100),
        principals=(("bob", Budget(lifetime=500)),),
    )
    ledger = open_ledger(budgets)
    spend(ledger, 100)
    with pytest.raises(BudgetExceededError):
        ledger.reserve("alice", EDGE, 1)
    ledger.reserve("carol", EDGE, 100)
    ledger.reserve("bob", EDGE, 500)
    ledger.top_up(principal_scope("alice"), 10, "asked nicely")
    ledger.reserve("alice", EDGE, 10)


def test_held_bits_count_until_they_are_settled(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(100))
    held = ledger.reserve("alice", EDGE, 100)
    with pytest.raises(BudgetExceededError):
        ledger.reserve("alice", EDGE, 1)
    ledger.release(held)
    ledger.reserve("alice", EDGE, 100)


def test_an_extension_is_admitted_like_a_reservation(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(100))
    held = ledger.extend(ledger.reserve("alice", EDGE, 60), 40)
    assert held.bits == 100
    with pytest.raises(BudgetExceededError):
        ledger.extend(held, 1)
    ledger.commit(held, 100)
    assert ledger.balance(TOTAL).spent == 100


def test_an_incident_is_charged_though_nothing_is_left(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(100))
    spend(ledger, 100)
    ledger.charge("alice", EDGE, CLOSE_BITS, "link closed")
    assert ledger.balance(edge_scope(EDGE)) == Balance(164, 0, 0)
    ledger.top_up(edge_scope(EDGE), 64, "owner's decision")
    with pytest.raises(BudgetExceededError):
        ledger.reserve("alice", EDGE, 1)


@pytest.mark.parametrize("reason", ["", 'said "no"\n', "\ud800", "x" * 1_000, "a\\b\x7f"])
def test_no_wording_keeps_an_incident_from_being_charged(open_ledger: Opener, reason: str) -> None:
    ledger = open_ledger(edge_cap(100))
    ledger.charge("alice", EDGE, CLOSE_BITS, reason)
    assert ledger.balance(TOTAL).spent == 64


def test_a_refusal_says_which_budget_how_much_and_when(
    open_ledger: Opener, clock: ManualClock
) -> None:
    ledger = open_ledger(edge_cap(100))
    spend(ledger, 70)
    clock.advance(600)
    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve("alice", EDGE, 40)
    details = caught.value.details
    assert (details["scope"], details["budget"]) == (f"edge:{EDGE}", "3600 s")
    assert (details["needed"], details["left"]) == (40, 30)
    wait = details["retry_after_s"]
    assert isinstance(wait, float)
    assert HOUR - 600 < wait <= LATEST - 600
    clock.advance(wait)
    ledger.reserve("alice", EDGE, 40)


def test_waiting_does_not_help_against_a_lifetime_cap(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(100, lifetime=100))
    spend(ledger, 100)
    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve("alice", EDGE, 40)
    assert caught.value.details["budget"] == "lifetime"
    assert caught.value.details["retry_after_s"] is None


def test_no_wait_is_promised_for_more_than_a_window_ever_holds(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(100))
    spend(ledger, 100)
    with pytest.raises(BudgetExceededError) as caught:
        ledger.reserve("alice", EDGE, 101)
    assert caught.value.details["retry_after_s"] is None


def test_a_top_up_lasts_one_window(open_ledger: Opener, clock: ManualClock) -> None:
    ledger = open_ledger(edge_cap(100))
    ledger.top_up(edge_scope(EDGE), 50, "a busy day")
    assert ledger.balance(edge_scope(EDGE)).left == 150
    clock.advance(HOUR)
    assert ledger.balance(edge_scope(EDGE)).left == 100


def test_a_forward_jump_of_the_wall_clock_frees_nothing(
    open_ledger: Opener, clock: ManualClock
) -> None:
    ledger = open_ledger(edge_cap(100))
    spend(ledger, 100)
    clock.jump(30 * 86_400)
    assert ledger.balance(edge_scope(EDGE)).left == 0
    clock.advance(LATEST)
    assert ledger.balance(edge_scope(EDGE)).left == 100


def test_a_backward_jump_of_the_wall_clock_changes_nothing(
    open_ledger: Opener, clock: ManualClock
) -> None:
    ledger = open_ledger(edge_cap(100))
    spend(ledger, 60)
    clock.jump(-30 * 86_400)
    spend(ledger, 40)
    clock.advance(LATEST)
    assert ledger.balance(edge_scope(EDGE)).left == 100


def test_downtime_frees_nothing_whatever_the_wall_clock_says(
    store: MemoryStore, clock: ManualClock
) -> None:
    spend(Ledger(store, edge_cap(100), clock), 100)
    rebooted = ManualClock(clock.now() + 365 * 86_400)
    ledger = Ledger(store, edge_cap(100), rebooted)
    assert ledger.balance(edge_scope(EDGE)).left == 0
    rebooted.advance(LATEST)
    assert ledger.balance(edge_scope(EDGE)).left == 100


def test_a_second_writer_does_not_age_the_firsts_bits(
    store: MemoryStore, clock: ManualClock
) -> None:
    first = Ledger(store, edge_cap(100), clock)
    clock.advance(LATEST)
    second = Ledger(store, edge_cap(100), clock)
    spend(second, 100)
    clock.advance(60)
    assert first.balance(edge_scope(EDGE)).left == 0
    clock.advance(LATEST - 120)
    assert first.balance(edge_scope(EDGE)).left == 0


def test_many_short_steps_add_up_to_the_time_they_took(
    open_ledger: Opener, clock: ManualClock
) -> None:
    ledger = open_ledger(edge_cap(100))
    spend(ledger, 100)
    for _ in range(5_000):
        clock.advance(LATEST / 5_000 + 1e-6)
        ledger.top_up(principal_scope("nobody"), 0, "tick")
    assert ledger.balance(edge_scope(EDGE)).left == 100


def test_a_dead_writers_bits_stay_spent_until_somebody_decides(
    store: MemoryStore, clock: ManualClock
) -> None:
    Ledger(store, edge_cap(100), clock).reserve("alice", EDGE, 80)
    clock.advance(10 * HOUR)
    ledger = Ledger(store, edge_cap(100), clock)
    assert ledger.balance(edge_scope(EDGE)) == Balance(0, 80, 20)
    (held,) = ledger.held()
    ledger.recover(held, held.bits, "writer died; all taken as sent")
    assert ledger.balance(edge_scope(EDGE)) == Balance(80, 0, 20)
    assert b"writer died" in store.read(0, 100)[-1].entry


def test_a_refusal_first_looks_whether_another_writer_freed_bits(
    store: MemoryStore, clock: ManualClock
) -> None:
    one, two = (Ledger(store, edge_cap(100), clock) for _ in range(2))
    held = one.reserve("alice", EDGE, 100)
    with pytest.raises(BudgetExceededError):
        two.reserve("bob", EDGE, 1)
    one.release(held)
    two.reserve("bob", EDGE, 100)
    with pytest.raises(BudgetExceededError):
        one.reserve("alice", EDGE, 1)


def test_an_unknown_edge_carries_nothing(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(100))
    for attempt in (
        lambda: ledger.reserve("alice", "inner→moon", 1),
        lambda: ledger.charge("alice", "inner→moon", 1, "incident"),
        lambda: ledger.top_up(edge_scope("inner→moon"), 1, "why not"),
    ):
        with pytest.raises(LedgerError, match="inner→moon"):
            attempt()
    assert ledger.balance(TOTAL) == Balance(0, 0, None)


@pytest.mark.parametrize("scope", ["", "totals", "principal", "principal:", "zone:inner"])
def test_an_unknown_account_cannot_be_topped_up(open_ledger: Opener, scope: str) -> None:
    with pytest.raises(LedgerError):
        open_ledger(edge_cap(100)).top_up(scope, 1, "why not")


def test_more_than_was_held_cannot_be_committed(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(100))
    held = ledger.reserve("alice", EDGE, 10)
    with pytest.raises(InvalidEntryError, match="holds 10"):
        ledger.commit(held, 11)
    ledger.commit(held, 10)


def test_a_reservation_is_settled_once(open_ledger: Opener) -> None:
    ledger = open_ledger(edge_cap(100))
    held = ledger.reserve("alice", EDGE, 10)
    ledger.commit(held, 10)
    for again in (
        lambda: ledger.commit(held, 10),
        lambda: ledger.release(held),
        lambda: ledger.extend(held, 1),
        lambda: ledger.recover(held, 0, "undo"),
    ):
        with pytest.raises(InvalidEntryError, match="not open"):
            again()
    assert ledger.balance(TOTAL).spent == 10


def test_commands_recorded_together_all_happen_or_none(
    open_ledger: Opener, store: MemoryStore
) -> None:
    ledger = open_ledger(edge_cap(100))
    first = ledger.record(Reserve("alice", EDGE, 50), Reserve("bob", EDGE, 50))
    with pytest.raises(BudgetExceededError):
        ledger.record(Commit(first, 20), Extend(first + 1, 40), Reserve("carol", EDGE, 41))
    assert ledger.balance(edge_scope(EDGE)) == Balance(0, 100, 0)
    ledger.record(Commit(first, 20), Extend(first + 1, 30))
    assert [held.bits for held in ledger.held()] == [80]
    assert ledger.reservation(first + 1) == ledger.held()[0]
    assert ledger.reservation(first) is None
    assert store.tip().size == 5


def test_deciding_does_not_read_the_log_again(clock: ManualClock) -> None:
    class Counting(MemoryStore):
        reads = 0

        def read(self, start: int, limit: int) -> Sequence[Row]:
            self.reads += 1
            return super().read(start, limit)

    store = Counting()
    ledger = Ledger(store, edge_cap(10**9), clock)
    for _ in range(100):
        spend(ledger, 10)
    assert store.reads == 0
