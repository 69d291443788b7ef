"""Who pays: nothing crosses uncovered, nothing is charged twice, and it all adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_world import MemoryPurse, job

from tidegate.errors import BudgetExceededError
from tidegate.serve.outer.link_account import OWN_PRINCIPAL, Accounts, shares, worst_case
from tidegate.units import Bits, MicroBits


@given(
    bits=st.integers(0, 5000),
    streams=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 400)), min_size=1),
)
def test_shares_stay_within_their_rooms_and_leave_nothing_out_that_fits(
    bits: int, streams: list[tuple[int, int]]
) -> None:
    weights, rooms = [w for w, _ in streams], [r for _, r in streams]
    split = shares(bits, weights, rooms)
    assert all(0 <= share <= room for share, room in zip(split, rooms, strict=True))
    assert sum(split) == min(bits, sum(rooms))


def test_a_frame_is_shared_by_what_symbols_cost() -> None:
    purse = MemoryPurse()
    accounts = Accounts(purse)
    first, second = accounts.open("a", Bits(1000)), accounts.open("b", Bits(1000))
    accounts.cover(Bits(64), [first, second])
    accounts.arrive(Bits(64))
    accounts.cost(first, MicroBits(3 << 16))
    accounts.cost(second, MicroBits(1 << 16))
    accounts.share([first, second])
    assert (accounts.close(first), accounts.close(second)) == (48, 16)
    assert purse.spent == {"a": 48, "b": 16}
    assert purse.held == {}


def test_what_a_stream_has_no_room_for_is_held_before_it_crosses() -> None:
    purse = MemoryPurse()
    accounts = Accounts(purse)
    only = accounts.open("a", Bits(10))
    accounts.cover(Bits(64), [only])
    assert purse.held == {0: 64}


def test_a_pull_that_cannot_be_covered_is_refused_and_changes_nothing() -> None:
    purse = MemoryPurse(cap=40)
    accounts = Accounts(purse)
    only = accounts.open("a", Bits(10))
    with pytest.raises(BudgetExceededError):
        accounts.cover(Bits(64), [only])
    accounts.cover(Bits(8), [only])
    accounts.arrive(Bits(8))
    accounts.share([only])
    assert accounts.close(only) == 8
    assert purse.spent == {"a": 8}


def test_dummies_are_paid_for_by_the_link_itself() -> None:
    purse = MemoryPurse()
    accounts = Accounts(purse)
    for _ in range(3):
        accounts.cover(Bits(32), [])
        assert sum(purse.held.values()) == 32
        accounts.arrive(Bits(32))
        accounts.share([])
    assert purse.spent == {OWN_PRINCIPAL: 96}
    assert purse.held == {}


def test_a_lost_connection_charges_what_may_have_crossed() -> None:
    purse = MemoryPurse()
    accounts = Accounts(purse)
    only = accounts.open("a", Bits(1000))
    accounts.cover(Bits(32), [only])
    accounts.cover(Bits(32), [only])
    accounts.arrive(Bits(32))
    accounts.lose([only])
    assert accounts.close(only) == 64


def test_an_incident_without_streams_is_charged_to_the_link() -> None:
    purse = MemoryPurse()
    Accounts(purse).incident(Bits(64), [], "link_closed")
    assert purse.spent == {OWN_PRINCIPAL: 64}
    assert purse.reasons == ["link_closed"]


def test_a_stream_that_cost_nothing_is_released() -> None:
    purse = MemoryPurse()
    accounts = Accounts(purse)
    account = accounts.open("a", Bits(10))
    assert accounts.close(account) == accounts.close(account) == 0
    assert purse.spent == purse.held == {}


def test_the_worst_case_counts_waiting() -> None:
    plain = worst_case(job(max_tokens=10), 100)
    assert worst_case(job(max_tokens=10, candidates=4), 100) > plain
    assert worst_case(job(max_tokens=10, reasoning=True), 100) > plain


def test_pulls_on_their_way_stay_covered_when_the_stream_that_covered_them_ends() -> None:
    purse = MemoryPurse()
    accounts = Accounts(purse)
    last = accounts.open("a", Bits(1000))
    accounts.cover(Bits(64), [last])
    accounts.cover(Bits(64), [last])
    accounts.arrive(Bits(64))
    accounts.cost(last, MicroBits(5 << 16))
    accounts.share([last])
    assert accounts.close(last) == 128
    accounts.arrive(Bits(64))
    accounts.share([])
    assert purse.spent == {"a": 128}
    assert purse.held == {}


def test_a_stream_that_ends_pays_only_for_pulls_that_nobody_else_covers() -> None:
    purse = MemoryPurse()
    accounts = Accounts(purse)
    first, second = accounts.open("a", Bits(1000)), accounts.open("b", Bits(1000))
    accounts.cover(Bits(64), [first, second])
    assert accounts.close(first) == 0
    accounts.arrive(Bits(64))
    accounts.share([second])
    assert accounts.close(second) == 64
