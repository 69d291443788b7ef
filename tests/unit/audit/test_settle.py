"""The journal of grants is read strictly, and its approvers are looked at."""

from __future__ import annotations

import json

from audit_case import (
    GRANT,
    LEASED,
    approved,
    asked,
    entries,
    journal,
    kinds,
    one,
    read,
    released,
    report,
)

from tidegate.audit.event import Place
from tidegate.audit.findings import Kind
from tidegate.audit.grants import read_journal


def _id(number: int) -> str:
    return f"{number:032x}"


def test_the_same_entry_twice_is_one_and_two_under_one_number_are_a_fork() -> None:
    lines = list(entries(*LEASED))
    twice = read_journal([*lines, lines[1]])
    assert (len(twice.grants[GRANT].approvals), twice.forks) == (1, [])
    other = json.dumps({**json.loads(lines[1][1]), "time": 5}).encode()
    forked = read_journal([*lines, (Place(1, 9), other)])
    assert forked.forks == [(1, Place(1, 9))]
    assert Kind.FORKED in kinds(report(grants=forked))


def test_entries_are_the_same_out_of_the_journal_and_out_of_the_log() -> None:
    lines = list(entries(*LEASED))
    logged = [
        (place, b'{"body":%b,"id":"","kind":"grant","time":1,"v":1}' % raw) for place, raw in lines
    ]  # fmt: skip
    assert read_journal([*lines, *logged]).forks == []
    assert read_journal(logged).grants.keys() == {GRANT}
    verdict = (Place(1, 1), b'{"body":{"x":1},"id":"","kind":"verdict","time":1,"v":1}')
    assert read_journal([verdict]).broken == []


def test_missing_and_broken_entries_are_findings() -> None:
    lines = list(entries(*LEASED))
    made = report(grants=read_journal([lines[0], lines[2], (Place(1, 4), b"{torn")]))
    assert one(made, Kind.JOURNAL_MISSING).figures["missing"] == 1
    assert one(made, Kind.UNREADABLE).gravity == "error"


def test_an_approval_of_a_grant_never_requested_is_named() -> None:
    made = report(grants=journal(approved(5, "x")))
    assert "never requested" in one(made, Kind.UNREADABLE).text


def test_nobody_approves_their_own() -> None:
    made = report(grants=journal(asked(0), approved(900, "rosa")))
    assert one(made, Kind.SELF_APPROVED).who == "rosa"


def test_a_grant_that_nobody_used_is_found_where_the_logs_cover_it() -> None:
    early, late = read("other", 1), read("other", 90_000)
    assert Kind.GRANT_UNREAD in kinds(report(early, late, grants=journal(*LEASED)))
    assert Kind.GRANT_UNREAD not in kinds(report(late, grants=journal(*LEASED)))
    assert Kind.GRANT_UNREAD not in kinds(report(early, grants=journal(*LEASED)))


def test_grants_for_parts_that_make_up_the_whole_are_found() -> None:
    def part(number: int, shards: list[int]) -> list[tuple[float, dict[str, object]]]:
        name = _id(number)
        return [asked(number, grant=name, shards=shards), released(number + 1, number + 2, name)]

    split = journal(*part(10, [0, 1]), *part(20, [2]), *part(30, [3]))
    assert one(report(grants=split), Kind.COMPLETE_BY_GRANTS).who == "rosa"
    whole = journal(*part(10, [0, 1, 2, 3]), *part(20, [2]))
    assert Kind.COMPLETE_BY_GRANTS not in kinds(report(grants=whole))
    short = journal(*part(10, [0, 1]), *part(20, [2]))
    assert Kind.COMPLETE_BY_GRANTS not in kinds(report(grants=short))


def test_rubber_stamps_are_found_from_the_third_on() -> None:
    does = [
        entry
        for number in range(4)
        for entry in (
            asked(1000 * number, grant=_id(number)),
            approved(1000 * number + 5, "fast", _id(number)),
            approved(1000 * number + 500, "slow", _id(number)),
        )
    ]
    found = one(report(grants=journal(*does)), Kind.RUBBER_STAMP)
    assert (found.who, found.time) == ("fast", 2005)
    assert Kind.RUBBER_STAMP not in kinds(report(grants=journal(*does[:6])))


def test_a_pair_is_found_and_a_team_that_rotates_is_not() -> None:
    people = ["anna", "bert", "carl", "dora", "emil", "fred"]

    def requests(pair: bool) -> list[tuple[float, dict[str, object]]]:
        does = []
        for number in range(60):
            who = people[number % 6]
            by = people[(number + 1 + number // 6 % 5) % 6]
            if pair and who in ("anna", "bert"):
                by = "bert" if who == "anna" else "anna"
            does += [
                asked(1000 * number, who, _id(number)),
                approved(1000 * number + 500, by, _id(number)),
            ]
        return does

    assert one(report(grants=journal(*requests(True))), Kind.PAIR).who == "anna, bert"
    assert Kind.PAIR not in kinds(report(grants=journal(*requests(False))))


def test_break_glass_is_loud() -> None:
    made = report(grants=journal(asked(0, break_glass=True), released(5, 9)))
    assert "break-glass" in one(made, Kind.BREAK_GLASS).text
