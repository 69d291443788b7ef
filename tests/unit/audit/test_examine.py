"""What is read of a model, by whom and under which grant, becomes findings."""

from __future__ import annotations

import msgspec
import pytest
from audit_case import (
    DAY,
    GRANT,
    LEASED,
    MODELS,
    SIZE,
    journal,
    kinds,
    known,
    one,
    read,
    report,
)

from tidegate.audit import examine
from tidegate.audit.conclude import Source, conclude
from tidegate.audit.event import UNKNOWN, Action, Broken, Event, Place
from tidegate.audit.examine import Examiner
from tidegate.audit.findings import Kind
from tidegate.audit.models import Guarded, guarded, table_of


def test_reads_under_a_lease_are_no_findings_and_are_accounted_for() -> None:
    made = report(*(read("arn:role/host", t, t // 2000) for t in (1001, 3000)),
                  read("other", 9000, action=Action.LIST), grants=journal(*LEASED))  # fmt: skip
    # No log of the second store, and none of a key service, was given.
    assert kinds(made) == {Kind.NO_KEY_EVENTS, Kind.NO_DATA_EVENTS}
    (account,) = made.accounts
    assert (account.reads, account.served, account.approvers) == (2, 2 * SIZE, ("anna",))
    assert account.seconds_to_approve == 100


@pytest.mark.parametrize(
    ("who", "time", "shard", "kind"),
    [
        ("stranger", 2000, 0, Kind.READ_UNGRANTED),
        ("arn:role/host", 500, 0, Kind.READ_OUTSIDE),
        ("arn:role/host", 5200, 0, Kind.READ_OUTSIDE),
        ("rosa", 2000, 3, Kind.READ_OUTSIDE),
    ],
    ids=["stranger", "before", "after", "other shard"],
)
def test_reads_that_no_grant_covers_are_found(
    who: str, time: float, shard: int, kind: Kind
) -> None:
    found = one(report(read(who, time, shard), grants=journal(*LEASED)), kind)
    assert [str(evidence) for evidence in found.evidence] == ["log:1"]
    assert found.time == time
    assert found.to_do


def test_clocks_may_differ_by_the_skew_and_no_more() -> None:
    late = read("arn:role/host", 5060)
    assert Kind.READ_OUTSIDE not in kinds(report(late, grants=journal(*LEASED), skew=61))
    assert Kind.READ_OUTSIDE in kinds(report(late, grants=journal(*LEASED), skew=59))


@pytest.mark.parametrize("ending", ["revoke", "wipe"])
def test_a_lease_that_was_ended_covers_nothing_more(ending: str) -> None:
    ended = journal(*LEASED, (2000, {"kind": ending, "grant": GRANT, "by": "x"}))
    assert Kind.READ_OUTSIDE in kinds(report(read("arn:role/host", 3000), grants=ended))


def test_a_renewed_lease_covers_more() -> None:
    renewed = journal(
        *LEASED, (4000, {"kind": "renew", "grant": GRANT, "by": "x", "until": 9_000_000})
    )
    assert Kind.READ_OUTSIDE not in kinds(report(read("arn:role/host", 8000), grants=renewed))


def test_copies_in_two_stores_are_one_model() -> None:
    made = report(read("x", 1, 0, length=SIZE // 2), read("x", 2, 0, target="gs://copy/m/0",
                  offset=SIZE // 2, length=SIZE // 2))  # fmt: skip
    assert made.coverage[0].measured.total.least == SIZE


def test_what_was_read_twice_counts_once() -> None:
    made = report(*(read("x", t, length=SIZE // 10) for t in range(50)))
    assert made.coverage[0].measured.total.most == SIZE // 10


def test_sizes_without_places_give_bounds() -> None:
    events = [read("x", t, offset=UNKNOWN, length=SIZE // 10) for t in range(5)]
    total = report(*events).coverage[0].measured.total
    assert (total.least, total.most) == (SIZE // 10, SIZE // 2)


def test_a_request_logged_twice_counts_once() -> None:
    events = [read("x", t, offset=UNKNOWN, length=9, request="same") for t in range(3)]
    made = report(*events)
    assert made.repeated == 2
    assert made.coverage[0].measured.total.most == 9


def test_a_file_that_was_opened_counts_whole_until_reads_of_it_are_logged() -> None:
    opened = read("x", 1, action=Action.OPEN, offset=UNKNOWN, length=UNKNOWN)
    assert report(opened).coverage[0].measured.total.most == SIZE
    read_of = read("x", 2, length=10)
    assert report(opened, read_of).coverage[0].measured.total.most == 10


def test_a_complete_set_is_found_at_its_last_read() -> None:
    made = report(*(read("x", 4000.0 * i, i) for i in range(4)))
    found = one(made, Kind.COMPLETE)
    assert 12_000 <= found.time <= 12_000 + made.stretch
    assert Kind.COVERAGE not in kinds(made)
    assert made.coverage[0].days_left == 0


def test_a_drip_is_found_on_its_fifth_day_and_not_before() -> None:
    drips = [read("x", day * DAY, offset=day * 4000, length=4000) for day in range(8)]
    assert Kind.DRIP not in kinds(report(*drips[:4]))
    found = one(report(*drips[:5]), Kind.DRIP)
    assert found.gravity == "error"
    assert found.figures["most_bytes"] == 20_000


def test_reading_the_same_head_every_day_is_no_drip() -> None:
    made = report(*(read("x", day * DAY, length=4000) for day in range(30)))
    assert Kind.DRIP not in kinds(made)


def test_a_drip_over_accounts_of_one_source_is_found_as_one() -> None:
    events = [
        read(
            f"user-{who}", day * DAY + who, who, offset=day * 8000, length=8000, address="1.2.3.4"
        )
        for day in range(9) for who in range(4)
    ]  # fmt: skip
    found = one(report(*events), Kind.CLUSTER)
    assert found.who == "user-0, user-1, user-2, user-3"
    assert found.figures["most_bytes"] == 9 * 4 * 8000


def test_a_source_that_everybody_uses_ties_nobody() -> None:
    events = [read(f"user-{who}", who, length=9000, offset=9000 * who) for who in range(20)]
    assert Kind.CLUSTER not in kinds(report(*events))


def test_time_left_is_told_at_the_present_rate() -> None:
    events = [
        read("x", day * DAY, day // 10, offset=day % 10 * 100_000, length=100_000)
        for day in range(20)
    ]
    row = report(*events).coverage[0]
    assert row.days_left == pytest.approx(20, rel=0.2)
    assert Kind.TIME_LEFT in kinds(report(*events))


def test_decrypts_are_matched_to_releases_shard_by_shard() -> None:
    def used(time: float, who: str = "broker") -> Event:
        return read(who, time, action=Action.DECRYPT, target="kms:arn:key", stream="k")

    ours = journal(*LEASED)
    assert Kind.DECRYPT_UNGRANTED not in kinds(report(used(1001), used(1002), grants=ours))
    third = one(report(used(1001), used(1002), used(1003), grants=ours), Kind.DECRYPT_UNGRANTED)
    assert "more often than" in third.text
    assert Kind.DECRYPT_UNGRANTED in kinds(report(used(4000), grants=ours))
    assert Kind.DECRYPT_UNGRANTED in kinds(report(used(1001, "stranger"), grants=ours))


def test_a_listing_of_secrets_uses_every_key_in_it() -> None:
    model = {**MODELS["model"][0], "keys": ["k8s://v/secrets/dek"]}
    secret = {**MODELS, "model": [model]}
    listed = read("x", 9, action=Action.DECRYPT, target="k8s://v/secrets")
    made = report(listed, grants=journal(), guards=guarded(table_of(secret)))
    assert Kind.DECRYPT_UNGRANTED in kinds(made)


def test_copies_signed_urls_and_other_accounts_are_found() -> None:
    made = report(
        read("x", 1, action=Action.COPY, length=UNKNOWN, other="s3://bad/0"),
        read("x", 2, presigned=True),
        read("x", 3, account="1", owner="2"),
        read("x", 4, action=Action.SHARE, target="s3://w", operation="s3:PutBucketReplication"),
        read("x", 5, action=Action.SHARE, target="s3://w-other", operation="s3:PutBucketPolicy"),
    )
    assert {Kind.STORE_COPY, Kind.PRESIGNED, Kind.CROSS_ACCOUNT} <= kinds(made)
    assert one(made, Kind.SHARED).about == "s3://w"
    assert made.coverage[0].measured.total.most == SIZE


def test_a_copy_between_the_models_own_places_is_no_theft() -> None:
    own = read("x", 1, action=Action.COPY, length=UNKNOWN, other="gs://copy/m/0")
    assert Kind.STORE_COPY not in kinds(report(own))


def test_new_sources_agents_and_people_are_found_only_once_something_is_usual() -> None:
    before = [read("x", day * DAY, address="192.0.2.1") for day in range(9)]
    same = read("x", 9 * DAY, address="192.0.2.77", agent="agent/2")
    other = read("x", 9 * DAY, address="198.51.100.1", agent="rclone/1")
    assert {Kind.NEW_SOURCE, Kind.NEW_AGENT} & kinds(report(*before, same)) == set()
    assert {Kind.NEW_SOURCE, Kind.NEW_AGENT} <= kinds(report(*before, other))
    assert Kind.NEW_SOURCE not in kinds(report(*before[:3], read("x", 4 * DAY, address="8.8.8.8")))
    assert Kind.NEW_PRINCIPAL in kinds(report(*before, read("y", 9 * DAY)))


def test_logging_switched_off_is_graver_than_an_attempt() -> None:
    off = read("x", 1, action=Action.LOGGING_OFF, target="trail", operation="StopLogging")
    assert one(report(off), Kind.LOGGING_OFF).gravity == "error"
    refused = msgspec.structs.replace(off, ok=False)
    assert one(report(refused), Kind.LOGGING_OFF).gravity == "warning"


def test_unknown_operations_are_named_and_weigh_more_on_a_model() -> None:
    on, off = (read("x", 1, action=Action.UNKNOWN, operation=f"op-{target}", target=target)
               for target in ("s3://w/m/0", "s3://elsewhere/0"))  # fmt: skip
    levels = {
        f.who: f.gravity for f in report(on, off).findings if f.kind is Kind.UNKNOWN_OPERATION
    }
    assert levels == {"op-s3://w/m/0": "warning", "op-s3://elsewhere/0": "note"}


def test_broken_records_are_named_with_file_and_line() -> None:
    examiner = Examiner(known(), None)
    examiner.fail(Broken("torn"), Place(0, 7))
    found = one(conclude(examiner, [Source("log", "events", "line")]), Kind.UNREADABLE)
    assert "torn" in found.text
    assert str(found.evidence[0]) == "log:7"


def test_times_beyond_reason_are_named_and_counted_nowhere() -> None:
    made = report(read("x", 1e12), read("x", -5.0), read("x", 1))
    assert (made.events, made.last) == (1, 1)
    assert one(made, Kind.UNREADABLE).figures["count"] == 2


def test_only_the_window_asked_for_is_looked_at() -> None:
    made = report(*(read("x", t, t // 10) for t in (5, 15, 25)), since=10, until=20)
    assert (made.events, made.outside) == (1, 2)
    assert made.coverage[0].measured.total.most == SIZE


def test_findings_without_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.audit.tally.MOST_KEYS", 2)
    made = report(*(read(f"u{n}", n) for n in range(5)), grants=journal())
    assert one(made, Kind.OVERFLOW).text.startswith("3 events")


def test_principals_without_room_are_added_up_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "MOST_PRINCIPALS", 2)
    monkeypatch.setattr("tidegate.audit.coverage.MOST_PRINCIPALS", 2)
    made = report(*(read(f"u{n}", n, n % 4) for n in range(8)))
    shares = {row.who[0]: row.measured.total.most for row in made.coverage}
    assert shares == {"u0": SIZE, "u1": SIZE, "(further principals)": 4 * SIZE}


def test_a_store_whose_log_holds_reads_under_another_name_is_not_called_blind() -> None:
    made = report(read("x", 1, stream="proxy"))
    found = {f.about for f in made.findings if f.kind is Kind.NO_DATA_EVENTS}
    assert found == {"gs"}


def test_a_trail_without_data_events_is_called_blind_without_any_model() -> None:
    managed = read("x", 1, action=Action.LIST, stream="cloudtrail management")
    found = one(report(managed, guards=Guarded(())), Kind.NO_DATA_EVENTS)
    assert "not one S3 data event" in found.text
