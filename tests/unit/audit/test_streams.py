"""A silence is a finding only where a log is never silent."""

from __future__ import annotations

import pytest

from tidegate.audit.clusters import HUB, Ties
from tidegate.audit.event import Place
from tidegate.audit.streams import HOUR, Stream, gaps


def _stream(counts: dict[int, int]) -> Stream:
    stream = Stream("s")
    for hour, count in counts.items():
        for _ in range(count):
            stream.take(hour * HOUR + 1.0, Place(0, 1))
    return stream


def test_a_busy_log_that_falls_silent_for_an_hour_has_a_gap() -> None:
    counts = dict.fromkeys(range(24 * 10), 25)
    assert gaps(_stream(counts)) == []
    del counts[24 * 5 + 7]
    (gap,) = gaps(_stream(counts))
    assert (gap.start, gap.end) == ((24 * 5 + 7) * HOUR, (24 * 5 + 8) * HOUR)
    assert "07:00" in gap.why


def test_nights_that_are_always_silent_are_no_gaps_and_a_silent_day_is() -> None:
    counts = {24 * day + hour: 30 for day in range(10) for hour in range(8, 18)}
    assert gaps(_stream(counts)) == []
    day = {hour: count for hour, count in counts.items() if hour // 24 != 6}
    assert [(gap.start, gap.end) for gap in gaps(_stream(day))] == [
        ((24 * 5 + 18) * HOUR, (24 * 7 + 8) * HOUR)
    ]


def test_weekends_are_no_gaps_and_a_silent_week_is() -> None:
    counts = {24 * day + hour: 30 for day in range(35) if day % 7 < 5 for hour in range(8, 18)}
    assert gaps(_stream(counts)) == []
    week = {hour: count for hour, count in counts.items() if not 14 <= hour // 24 < 21}
    assert len(gaps(_stream(week))) == 1


def test_quiet_logs_have_gaps_only_where_chance_leaves_none() -> None:
    counts = dict.fromkeys(range(24 * 30), 1)
    del counts[100]
    assert gaps(_stream(counts)) == []
    for hour in range(101, 106):
        del counts[hour]
    (gap,) = gaps(_stream(counts))
    assert "by chance" in gap.why


@pytest.mark.parametrize(("least", "found"), [(30, 1), (3, 0)])
def test_logs_of_few_days_are_judged_by_all_their_hours(least: int, found: int) -> None:
    counts = {hour: least + hour for hour in range(12) if hour not in (4, 5)}
    assert len(gaps(_stream(counts))) == found


def test_a_forged_date_hides_no_gap_and_costs_no_look_at_every_day_until_then() -> None:
    counts = dict.fromkeys(range(24 * 10), 25)
    del counts[100]
    starts = [gap.start for gap in gaps(_stream({**counts, 10**12: 1}))]
    assert starts == [100 * HOUR, 240 * HOUR]


def _tied(*reads: tuple[str, str, str]) -> list[tuple[str, ...]]:
    ties = Ties()
    for who, credential, address in reads:
        ties.add(who, credential, address)
    return [members for members, _ in ties.clusters()]


def test_credentials_and_sources_tie_and_chains_of_them_do() -> None:
    assert _tied(
        ("a", "k1", ""), ("b", "k1", "192.0.2.1"), ("c", "k2", "192.0.2.1"), ("d", "k3", "x")
    ) == [("a", "b", "c")]
    assert _tied(("a", "", ""), ("b", "", "")) == []


def test_what_many_share_ties_none() -> None:
    few = [(f"u{n}", "", "proxy") for n in range(HUB)]
    assert len(_tied(*few)[0]) == HUB
    assert _tied(*few, ("one more", "", "proxy")) == []
