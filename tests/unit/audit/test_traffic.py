"""The made-up thieves are found as the benchmark says, in every format, and real logs are read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tidegate.audit.conclude import Report, Source, conclude
from tidegate.audit.event import Action, Event, Place
from tidegate.audit.examine import Examiner
from tidegate.audit.findings import Kind
from tidegate.audit.grants import Journal, read_journal
from tidegate.audit.models import guarded, table_of
from tidegate.audit.readers import READERS
from tidegate.bench import vault_audit_real
from tidegate.bench import vault_audit_render as render
from tidegate.bench import vault_audit_traffic as traffic

DAYS = traffic.LEARNED + 6
LOGS = Path(__file__).parents[4] / "shared" / "data" / "logs"


@pytest.fixture(scope="module")
def events() -> list[Event]:
    made = [*(one.event for one in traffic.days(DAYS, load=1)), *render.decrypts(DAYS)]
    return sorted(made, key=lambda event: event.time)


def _journal() -> Journal:
    return read_journal((Place(0, n), raw) for n, raw in enumerate(render.journal(DAYS), 1))


def _report(events: list[Event], grants: Journal | None) -> Report:
    examiner = Examiner(guarded(table_of(tomllib.loads(render.MODELS))), grants)
    for number, event in enumerate(events, 1):
        examiner.take(event, Place(0, number))
    return conclude(examiner, [Source("log", "events", "record")])


def test_every_thief_that_can_be_seen_is_named(events: list[Event]) -> None:
    named = {who for found in _report(events, _journal()).findings for who in found.who.split(", ")}
    for thief in traffic.THIEVES:
        assert not thief.seen or set(thief.names) & named, thief.name


def test_a_drip_is_found_by_coverage_alone_on_its_fifth_day(events: list[Event]) -> None:
    def drips(until: int) -> set[str]:
        end = traffic.START + until * traffic.DAY
        made = _report([event for event in events if event.time < end], None)
        return {finding.who for finding in made.findings if finding.kind is Kind.DRIP}

    assert traffic.role("etl-2") not in drips(traffic.LEARNED + 4)
    found = drips(traffic.LEARNED + 5)
    assert traffic.role("etl-2") in found
    # Four accounts with a quarter each: no one of them is as fast, all together are.
    assert ", ".join(traffic.role(f"intern-{i}") for i in range(4)) in found


def test_a_drip_under_a_lease_is_not_seen_as_is_said(events: list[Event]) -> None:
    made = _report(events, _journal())
    kinds = {finding.kind for finding in made.findings if finding.who == "serve"}
    assert kinds <= {Kind.NEW_SOURCE}


@pytest.mark.parametrize("kind", ["cloudtrail", "s3-access", "events"])
def test_formats_say_the_same_up_to_what_they_leave_out(kind: str, events: list[Event]) -> None:
    write = {
        "cloudtrail": render.cloudtrail, "s3-access": render.s3_access, "events": render.own_events,
    }[kind]  # fmt: skip
    reader = READERS[kind]()
    reads = [event for event in events if event.action is Action.READ][::40]
    for event in reads:
        again = reader.parse(write(event))
        assert again is not None
        assert (again.principal, again.target, again.length) == (
            event.principal, event.target, event.length,
        )  # fmt: skip
        assert abs(again.time - event.time) < 1
        assert again.offset in (event.offset, -1)


@pytest.mark.parametrize("name", vault_audit_real.SETS)
def test_real_logs_are_read_whole_and_false_findings_are_those_stated(name: str) -> None:
    if not (LOGS / name).is_dir():
        pytest.skip(f"the real logs are not beside the checkout ({LOGS})")
    made = vault_audit_real.audited(LOGS / name, vault_audit_real.SETS[name])
    assert Kind.UNREADABLE not in {finding.kind for finding in made.findings}
    assert made.events == {"cloudtrail-otrf": 103, "cloudtrail-invictus": 2900}.get(name, 310)
    # The tool of the second set prepared and tidied up, with the attacker's own credentials.
    assert len(vault_audit_real.false(made, name)) == (5 if name == "cloudtrail-invictus" else 0)
    kinds = {finding.kind for finding in made.findings}
    if name == "cloudtrail-otrf":
        assert Kind.COMPLETE in kinds
    else:
        assert {Kind.NO_DATA_EVENTS, Kind.LOGGING_OFF, Kind.SHARED} <= kinds
