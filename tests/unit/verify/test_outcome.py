"""What nobody could check is never a pass."""

from __future__ import annotations

from tidegate.verify.outcome import CannotVerify, Fail, Pass, combined, exit_status

GOOD = Pass(claim="a holds", limits=("x", "y"))
UNKNOWN = CannotVerify(reason="no seed")
BAD = Fail(reason="b broke", evidence=("record 3",))


def test_one_failure_fails_whatever_else_is_unknown():
    assert combined((GOOD, UNKNOWN, BAD)) == BAD


def test_the_unknown_outweighs_any_pass():
    assert combined((GOOD, UNKNOWN, GOOD)) == UNKNOWN


def test_passes_keep_every_limit_once():
    both = combined((GOOD, Pass(claim="c holds", limits=("y", "z"))))
    assert both == Pass(claim="a holds; c holds", limits=("x", "y", "z"))


def test_nothing_checked_is_not_a_pass():
    assert isinstance(combined(()), CannotVerify)


def test_exit_status_tells_the_three_apart():
    assert [exit_status(outcome) for outcome in (GOOD, BAD, UNKNOWN)] == [0, 1, 2]
