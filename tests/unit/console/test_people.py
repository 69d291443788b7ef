from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tidegate.clock import ManualClock
from tidegate.console.errors import ConsoleError
from tidegate.console.limits import Limiter, Rate
from tidegate.console.people import People, Role
from tidegate.console.sessions import IDLE_S, LONGEST_S, Sessions

PASSWORD = "a long enough password"


@pytest.fixture
def people(tmp_path: Path) -> People:
    made = People(tmp_path / "people.json")
    made.put("ann", Role.APPROVER, PASSWORD)
    return made


def test_only_the_right_password_opens(people: People) -> None:
    found = people.check("ann", PASSWORD)
    assert found is not None
    assert found.role is Role.APPROVER
    assert people.check("ann", PASSWORD + "x") is None
    assert people.check("bob", PASSWORD) is None
    assert people.check("ann", "") is None


def test_the_file_holds_no_password_and_is_its_owners_alone(people: People, tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    assert PASSWORD.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("name", ["", "Ann", "a b", "../x", "x" * 65, "ann\n"])
def test_odd_names_are_refused(people: People, name: str) -> None:
    with pytest.raises(ConsoleError):
        people.put(name, Role.VIEWER, PASSWORD)


def test_short_and_endless_passwords_are_refused(people: People) -> None:
    for password in ("short", "x" * 10_000):
        with pytest.raises(ConsoleError):
            people.put("bob", Role.VIEWER, password)


def test_a_damaged_file_lets_nobody_in(people: People, tmp_path: Path) -> None:
    (tmp_path / "people.json").write_text('[{"name": "ann"}]')
    with pytest.raises(ConsoleError):
        people.check("ann", PASSWORD)


def test_nobody_does_what_another_role_is_for(people: People) -> None:
    people.put("olga", Role.OPERATOR, PASSWORD)
    ann, olga = people.one("ann"), people.one("olga")
    assert ann is not None
    assert olga is not None
    assert ann.may(Role.VIEWER)
    assert olga.may(Role.VIEWER)
    assert ann.may(Role.APPROVER)
    assert not ann.may(Role.OPERATOR)
    assert olga.may(Role.OPERATOR)
    assert not olga.may(Role.APPROVER)


def test_a_session_ends_by_idling_by_age_by_logout_and_with_its_person(people: People) -> None:
    clock = ManualClock()
    sessions = Sessions(people, clock)
    ann = people.one("ann")
    assert ann is not None

    token, _ = sessions.begin(ann)
    clock.advance(IDLE_S + 1)
    assert sessions.of(token) is None

    token, _ = sessions.begin(ann)
    for _ in range(int(LONGEST_S / (IDLE_S / 2)) + 1):
        clock.advance(IDLE_S / 2)
        last = sessions.of(token)
    assert last is None

    token, _ = sessions.begin(ann)
    sessions.end(token)
    assert sessions.of(token) is None

    token, _ = sessions.begin(ann)
    people.put("ann", Role.VIEWER, PASSWORD)
    assert sessions.of(token) is None
    assert sessions.of(None) is None
    assert sessions.of("made up") is None


def test_a_page_left_open_does_not_keep_a_session_alive(people: People) -> None:
    clock = ManualClock()
    sessions = Sessions(people, clock)
    ann = people.one("ann")
    assert ann is not None
    token, _ = sessions.begin(ann)
    for _ in range(10):
        clock.advance(IDLE_S / 8)
        lasts = sessions.lasts(token)
    assert not lasts


def test_a_bucket_fills_again_and_never_above_its_burst() -> None:
    clock = ManualClock()
    limiter = Limiter(Rate(burst=3, a_second=0.5), clock)
    assert [limiter.wait("a") for _ in range(3)] == [0, 0, 0]
    assert limiter.wait("a") == pytest.approx(2)
    assert limiter.wait("b") == 0
    clock.advance(1_000_000)
    assert [limiter.wait("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_forgetting_buckets_does_not_help_whoever_floods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.console.limits._MOST", 10)
    limiter = Limiter(Rate(burst=5, a_second=0.001), ManualClock())
    for _ in range(5):
        limiter.wait("target")
    for number in range(20):
        limiter.wait(f"other {number}")
    assert [limiter.wait("target") > 0 for _ in range(3)] == [False, True, True]
