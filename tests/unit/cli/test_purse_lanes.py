"""A lane's own budget beside everybody's: held in both or in none, and never counted too little."""

from __future__ import annotations

from pathlib import Path

import pytest
from link_world import MemoryPurse

from tidegate.cli import purse_lanes
from tidegate.cli.ground import budgets_of, lane_budgets, lane_principal, open_ledger
from tidegate.cli.purse import LedgerAllowance
from tidegate.cli.purse_lanes import LanePurse, lane_purses
from tidegate.config import Budget, Caps, Lane, Settings
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.ledger.budgets import edge_between, edge_scope
from tidegate.units import Bits


def test_what_either_refuses_is_held_by_neither():
    lane, shared = MemoryPurse(cap=100), MemoryPurse(cap=60)
    purse = LanePurse(lane, shared)
    with pytest.raises(BudgetExceededError):
        purse.reserve("ann", Bits(80))
    with pytest.raises(BudgetExceededError):
        purse.reserve("ann", Bits(101))
    assert sum(lane.held.values()) == sum(shared.held.values()) == 0
    assert sum(lane.spent.values()) == sum(shared.spent.values()) == 0


def test_what_crossed_is_charged_to_both():
    lane, shared = MemoryPurse(), MemoryPurse()
    purse = LanePurse(lane, shared)
    held = purse.reserve("ann", Bits(50))
    purse.extend(held, Bits(30))
    purse.commit(held, Bits(70))
    purse.release(purse.reserve("ann", Bits(10)))
    purse.charge("ann", Bits(5), "late")
    assert sum(lane.spent.values()) == sum(shared.spent.values()) == 75
    assert shared.spent == {"ann": 75}
    assert not lane.held
    assert not shared.held


class Failing(MemoryPurse):
    """A ledger on a disk that is full."""

    def commit(self, reservation: int, bits: Bits) -> None:
        raise LedgerError("the disk is full")


@pytest.mark.parametrize("fails", ["lane", "shared"])
def test_if_one_cannot_be_written_the_other_still_counts(fails: str):
    purses = {"lane": MemoryPurse(), "shared": MemoryPurse()} | {fails: Failing()}
    purse = LanePurse(purses["lane"], purses["shared"])
    held = purse.reserve("ann", Bits(50))
    with pytest.raises(LedgerError):
        purse.commit(held, Bits(40))
    for one in purses.values():
        assert sum(one.spent.values()) + sum(one.held.values()) >= 40


def lanes(**caps: Caps) -> dict[str, Lane]:
    return {
        name: Lane(address="x", secret_file=Path("x"), budget=cap) for name, cap in caps.items()
    }


def test_only_lanes_with_caps_have_a_purse_of_their_own(tmp_path: Path):
    shared = MemoryPurse()
    path = tmp_path / "lanes.sqlite"
    with lane_purses(path, lanes(east=Caps(), west=Caps()), shared) as purses:
        assert purses == {"east": shared, "west": shared}
    assert not path.exists()
    with lane_purses(path, lanes(east=Caps(day=200_000), west=Caps()), shared) as purses:
        assert purses["west"] is shared
        held = purses["east"].reserve("ann", Bits(150_000))
        with pytest.raises(BudgetExceededError) as caught:
            purses["east"].reserve("bob", Bits(60_000))
        assert caught.value.details["scope"] == edge_scope(edge_between("east", purse_lanes.HERE))
        purses["east"].commit(held, Bits(150_000))
        assert not shared.held
    # What was spent is spent for the next start, too.
    with lane_purses(path, lanes(east=Caps(day=200_000)), shared) as purses:
        with pytest.raises(BudgetExceededError):
            purses["east"].reserve("ann", Bits(60_000))
        purses["east"].reserve("ann", Bits(40_000))


def test_an_inner_half_caps_each_lane_by_itself(tmp_path: Path):
    settings = Settings(
        budget=Budget(profile="testing-only"), lanes=lanes(front=Caps(day=1_000), side=Caps())
    )
    budgets = lane_budgets(budgets_of(settings, 1), settings)
    edge = edge_between("inner", "outside")
    with open_ledger(tmp_path / "inner.sqlite", budgets) as ledger:
        front, side = (
            LedgerAllowance(ledger, lane_principal(name), edge) for name in ("front", "side")
        )
        front.spend(Bits(900))
        with pytest.raises(BudgetExceededError):
            front.spend(Bits(200))
        side.spend(Bits(10**6))
        for one in (front, side):
            one.close()
