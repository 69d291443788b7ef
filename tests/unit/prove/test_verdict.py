"""Every verdict says its tier, its bound, what was covered and what was not."""

from __future__ import annotations

import math

import msgspec
import pytest

from tidegate.prove.tiers import MEANING, Tier
from tidegate.prove.verdict import CannotVerify, Fail, Pass, Place, exit_status, lines, report

PASSED = Pass(tier=Tier.FREIVALDS, coverage="all rows", error_log2=-66.5, row_log2=-78)
FAILED = Fail(
    tier=Tier.FREIVALDS, place=Place(part="product", token=0, layer=0, op="o"), reason="wrong"
)
UNKNOWN = CannotVerify(tier=Tier.ZERO_KNOWLEDGE, reason="not built")


def test_a_pass_says_bound_coverage_and_gaps() -> None:
    told = "\n".join(lines(PASSED))
    assert "T3 freivalds" in told
    assert "2^-66.5" in told
    assert "2^-78 a row" in told
    assert told.count("NOT covered") == len(MEANING[Tier.FREIVALDS].open)


def test_a_place_of_zeros_is_named_in_full() -> None:
    assert "token 0, layer 0, op o" in "\n".join(lines(FAILED))


@pytest.mark.parametrize("tier", Tier)
def test_every_tier_says_what_it_leaves_open(tier: Tier) -> None:
    assert MEANING[tier].open


@pytest.mark.parametrize(("verdict", "status"), [(PASSED, 0), (FAILED, 1), (UNKNOWN, 2)])
def test_each_outcome_has_its_exit_status_and_is_json(
    verdict: Pass | Fail | CannotVerify, status: int
) -> None:
    assert exit_status(verdict) == status
    told = msgspec.json.decode(msgspec.json.encode(report(verdict)))
    assert told["outcome"] == ("pass", "fail", "cannot_verify")[status]


def test_an_impossible_error_is_no_number_in_json() -> None:
    sure = Pass(tier=Tier.REPLAY, coverage="all", error_log2=-math.inf)
    told = msgspec.json.decode(msgspec.json.encode(report(sure)))
    assert told["error_log2"] is None
    assert "none" in told["error"]


def test_monitoring_is_called_that() -> None:
    assert "monitoring" in MEANING[Tier.PROJECT].title
