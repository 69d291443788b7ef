"""An outcome is a pass only if every check was made and holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.attest.appraisal import (
    Appraisal,
    Setting,
    Sheet,
    freshness,
    in_date,
    soonest,
)
from tidegate.attest.outcome import (
    CannotVerify,
    Fail,
    Outcome,
    Pass,
    combined,
    exit_status,
    word,
)
from tidegate.errors import ConfigError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OUTCOMES = st.one_of(st.just(Pass("good")), st.just(Fail("bad")), st.just(CannotVerify("missing")))


def setting(nonce: bytes | None) -> Setting:
    return Setting(now=NOW, nonce=nonce, roots=frozenset())


@given(st.lists(OUTCOMES, max_size=6))
def test_anything_unknown_is_never_a_pass(outcomes: list[Outcome]) -> None:
    found = combined(tuple(outcomes))
    kinds = {type(one) for one in outcomes}
    if Fail in kinds:
        assert isinstance(found, Fail)
    elif CannotVerify in kinds or not outcomes:
        assert isinstance(found, CannotVerify)
        assert exit_status(found) != 0
    else:
        assert isinstance(found, Pass)
        assert exit_status(found) == 0


def test_outcomes_have_words_for_machines() -> None:
    assert [word(one) for one in (Pass(""), Fail(""), CannotVerify(""))] == [
        "pass",
        "fail",
        "cannot_verify",
    ]


def test_an_appraisal_without_checks_is_no_pass() -> None:
    empty = Appraisal(kind="none", checks=(), claims=(), bound=b"", device="", at=NOW)
    assert not empty.passed
    assert isinstance(empty.outcome, CannotVerify)


def test_checks_are_numbered_as_they_are_made() -> None:
    sheet = Sheet()
    assert sheet.need("first", True, "seen", "otherwise")
    assert not sheet.need("second", False, "seen", "otherwise")
    assert not sheet.unknown("third", "missing")
    assert [(check.number, check.name, check.detail) for check in sheet.done()] == [
        (1, "first", "seen"),
        (2, "second", "otherwise"),
        (3, "third", "missing"),
    ]


@given(st.binary(min_size=16, max_size=64))
def test_a_nonce_is_found_with_zeros_behind_it_alone(nonce: bytes) -> None:
    assert isinstance(freshness(nonce.ljust(64, b"\0"), setting(nonce)), Pass)
    other = bytes([nonce[0] ^ 1]) + nonce[1:]
    assert isinstance(freshness(other.ljust(64, b"\0"), setting(nonce)), Fail)
    assert isinstance(freshness(nonce[:-1], setting(nonce)), Fail)
    if len(nonce) < 64:
        assert isinstance(freshness(nonce.ljust(64, b"\1"), setting(nonce)), Fail)


def test_without_a_nonce_nobody_knows_the_day() -> None:
    assert isinstance(freshness(bytes(64), setting(None)), CannotVerify)


def test_a_nonce_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ConfigError, match="guessed"):
        setting(b"challenge")


def test_an_hour_without_a_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="zone"):
        Setting(now=NOW.replace(tzinfo=None), nonce=None, roots=frozenset())


def test_validity_includes_both_ends_in_any_zone() -> None:
    start, end = NOW, NOW + timedelta(days=1)
    east = timezone(timedelta(hours=9))
    assert isinstance(in_date(start, end, start, "it"), Pass)
    assert isinstance(in_date(start, end, end.astimezone(east), "it"), Pass)
    assert isinstance(in_date(start, end, start - timedelta(seconds=1), "it"), Fail)
    assert isinstance(in_date(start, end, end + timedelta(seconds=1), "it"), Fail)


def test_the_soonest_end_counts() -> None:
    assert soonest(None, NOW + timedelta(days=1), NOW) == NOW
    assert soonest(None) is None
