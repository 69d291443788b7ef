"""The fleet's state against whoever can write to the store, or breaks while he writes."""

from __future__ import annotations

import pytest
from fleet_world import SECRET, SUBJECT, Fleet, planned, record, verdict_of

from tidegate.errors import ConfigError
from tidegate.verify.fleet_book import Book, ForgedError
from tidegate.verify.fleet_store_memory import MemoryObjects
from tidegate.verify.replay_findings import ReplayKind, found

LOST = found(ReplayKind.WORKER_LOST, "The replay of this answer died.", 0)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def stored(fleet: Fleet) -> dict[str, bytes]:
    assert isinstance(fleet.objects, MemoryObjects)
    return fleet.objects.data


def test_without_a_plan_it_says_what_to_run() -> None:
    with pytest.raises(ConfigError, match="tidegate fleet plan"):
        Book(MemoryObjects(), SECRET).plan()


def test_another_fleets_key_opens_nothing(fleet: Fleet) -> None:
    with pytest.raises(ForgedError, match="does not open"):
        Book(fleet.objects, bytes(32)).plan()


def test_the_first_verdict_of_a_shard_stays(fleet: Fleet) -> None:
    name = fleet.names[0]
    shard = fleet.book.shard(name)
    assert fleet.book.settle(verdict_of(name, shard))
    assert not fleet.book.settle(verdict_of(name, shard, findings=(LOST,)))
    verdict = fleet.book.verdict(name, SUBJECT)
    assert verdict == verdict_of(name, shard)
    assert fleet.book.settled() == {name}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: raw[: len(raw) // 2], id="half-written"),
        pytest.param(lambda raw: b"", id="empty"),
        pytest.param(lambda raw: raw.replace(b'"tokens":0', b'"tokens":9', 1), id="altered"),
        pytest.param(lambda raw: b"0" * 64 + raw[64:], id="forged"),
        pytest.param(lambda raw: raw[:-1], id="torn"),
    ],
)
def test_a_verdict_that_does_not_open_goes_to_quarantine_and_its_shard_is_open_again(
    fleet: Fleet, damage
) -> None:
    name = fleet.names[0]
    shard = fleet.book.shard(name)
    fleet.book.settle(verdict_of(name, shard))
    full = f"verdicts/{name}"
    stored(fleet)[full] = damage(stored(fleet)[full])
    assert fleet.book.verdict(name, SUBJECT) is None
    assert fleet.book.settled() == set()
    assert fleet.book.quarantined() == 1
    assert fleet.book.settle(verdict_of(name, shard))
    assert fleet.book.verdict(name, SUBJECT) is not None


def test_a_verdict_moved_to_another_shard_is_no_verdict_there(fleet: Fleet) -> None:
    one, other = fleet.names[:2]
    fleet.settle([one])
    stored(fleet)[f"verdicts/{other}"] = stored(fleet)[f"verdicts/{one}"]
    assert fleet.book.verdict(other, SUBJECT) is None
    assert fleet.book.quarantined() == 1


def test_a_sealed_verdict_on_other_answers_is_no_verdict(fleet: Fleet) -> None:
    one, other = fleet.names[:2]
    strange = verdict_of(one, fleet.book.shard(other))
    fleet.book.settle(strange)
    assert fleet.book.verdict(one, SUBJECT) is None


def test_a_plan_altered_by_whoever_can_write_to_the_store_is_refused(fleet: Fleet) -> None:
    stored(fleet)["plan"] = stored(fleet)["plan"].replace(b'"name":"made-up"', b'"name":"my-own!"')
    with pytest.raises(ForgedError):
        fleet.book.plan()


def test_poisoned_answers_are_named_and_never_clean(fleet: Fleet) -> None:
    name = fleet.names[0]
    shard = fleet.book.shard(name)
    fleet.book.settle(verdict_of(name, shard, findings=(LOST,)))
    ((where, (poison,)),) = fleet.book.poisoned().items()
    assert (where, poison.answer, poison.kind) == (name, shard.answers[0].number, "worker_lost")
    verdict = fleet.book.verdict(name, SUBJECT)
    assert verdict is not None
    assert verdict.checked[0].findings == (LOST,)


def test_poisoned_answers_are_tried_again_only_when_somebody_asks(fleet: Fleet) -> None:
    first, second = fleet.names[:2]
    fleet.book.settle(verdict_of(first, fleet.book.shard(first), findings=(LOST,)))
    fleet.settle([second])
    assert fleet.book.settled() == {first, second}
    assert fleet.book.reopen() == 1
    assert fleet.book.settled() == {second}
    assert fleet.book.poisoned() == {}


def test_what_is_set_aside_keeps_its_reason_until_it_is_taken_up(fleet: Fleet) -> None:
    fleet.book.set_aside(fleet.names[0], "the record is not there")
    assert fleet.book.aside() == {fleet.names[0]: "the record is not there"}
    fleet.book.take_up(fleet.names[0])
    assert fleet.book.aside() == {}


def test_planning_again_keeps_the_verdicts_that_are_there(fleet: Fleet) -> None:
    fleet.settle(fleet.names)
    before = fleet.book.settled()
    planned(fleet.world.store, fleet.book, fleet.shard_tokens)
    assert fleet.book.settled() == before == {t.name for t in fleet.book.plan().tickets}


def test_nothing_of_prompts_or_answers_lies_in_the_store() -> None:
    fleet = Fleet(world=record([40, 40]))
    fleet.settle(fleet.names)
    for raw in stored(fleet).values():
        assert b'"ids"' not in raw
        assert b"prompt" not in raw
        assert b"seed" not in raw
