from __future__ import annotations

import pytest

from tidegate.errors import ConfigError
from tidegate.ledger import edge_between, edge_scope, profile
from tidegate.ledger.budgets import TOTAL

ZONES = ("inner", "intermediate", "outside")


def test_three_zones_give_two_edges_with_their_own_caps() -> None:
    budgets = profile("strict", parameters=10**9, zones=ZONES)
    inner, outer = (budget for _, budget in budgets.edges)
    assert [name for name, _ in budgets.edges] == ["inner→intermediate", "intermediate→outside"]
    assert inner.windows[1].bits > outer.windows[1].bits
    assert budgets.of(edge_scope(edge_between("intermediate", "outside"))) == outer


def test_a_strict_day_keeps_the_weights_in_for_a_year() -> None:
    parameters = 10**9
    day = profile("strict", parameters=parameters).of(TOTAL).windows[1]
    assert day.seconds == 86_400
    assert day.bits * 365 <= 16 * parameters / 100 < (day.bits + 1) * 365


def test_a_strict_lifetime_is_half_of_what_a_thief_needs() -> None:
    assert profile("strict", parameters=1_000).of(TOTAL).lifetime == 16 * 1_000 // 100 // 2


@pytest.mark.parametrize(
    ("name", "parameters", "zones"),
    [("lax", 10, ZONES), ("demo", 0, ZONES), ("demo", 10, ("inner",))],
)
def test_a_profile_that_means_nothing_is_refused(
    name: str, parameters: int, zones: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError):
        profile(name, parameters=parameters, zones=zones)
