"""Heads, queues and how many workers there should be, over workers that do as they are told."""

from __future__ import annotations

from collections import Counter

import pytest
from fleet_world import Fleet, ScriptedExecutor
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ConfigError, EngineError
from tidegate.verify.fleet_head import Head
from tidegate.verify.fleet_pod import part_of
from tidegate.verify.fleet_queue import FAILURES, LOSSES, Queue
from tidegate.verify.fleet_scale import Crew, drain_seconds, wanted
from tidegate.verify.fleet_status import status_of
from tidegate.verify.fleet_store_memory import MemoryObjects

FATES = ("done", "lost", "failed", "late")


def created(fleet: Fleet) -> Counter[str]:
    """How often each verdict was made."""
    assert isinstance(fleet.objects, MemoryObjects)
    return Counter(name for name in fleet.objects.created if name.startswith("verdicts/"))


def test_every_shard_gets_one_verdict() -> None:
    fleet = Fleet()
    drained = Head(fleet.book, fleet.plan, ScriptedExecutor(fleet.book), Crew()).run()
    assert fleet.book.settled() == set(fleet.names)
    assert (drained.settled, drained.fresh) == (len(fleet.names), len(fleet.names))
    assert set(created(fleet).values()) == {1}


@given(fates=st.lists(st.sampled_from(FATES), max_size=60), workers=st.integers(1, 4))
def test_whatever_becomes_of_workers_no_verdict_is_lost_or_made_twice(
    fates: list[str], workers: int
) -> None:
    fleet = Fleet()
    told = iter(fates)
    executor = ScriptedExecutor(fleet.book, lambda _name, _turn: next(told, "done"), workers)
    drained = Head(fleet.book, fleet.plan, executor, Crew(least=workers, most=workers)).run()
    settled = fleet.book.settled()
    assert settled | drained.aside.keys() == set(fleet.names)
    assert settled.isdisjoint(drained.aside) or "late" in fates
    assert all(count == 1 for count in created(fleet).values())
    assert fleet.book.aside().keys() == drained.aside.keys()
    assert executor.most <= workers


def test_another_head_goes_on_where_one_was_killed() -> None:
    fleet = Fleet()
    half = fleet.names[: len(fleet.names) // 2]
    fleet.settle(half)
    executor = ScriptedExecutor(fleet.book)
    drained = Head(fleet.book, fleet.plan, executor, Crew()).run()
    assert executor.started == list(fleet.names[len(half) :])
    assert drained.settled == len(fleet.names)


def test_two_heads_at_once_make_each_verdict_once() -> None:
    fleet = Fleet()
    other = ScriptedExecutor(fleet.book)

    def meanwhile(name: str, _turn: int) -> str:
        if name == fleet.names[0]:
            Head(fleet.book, fleet.plan, other, Crew()).run()
        return "done"

    executor = ScriptedExecutor(fleet.book, meanwhile)
    drained = Head(fleet.book, fleet.plan, executor, Crew()).run()
    assert drained.fresh == 0
    assert set(created(fleet).values()) == {1}


def test_a_shard_whose_workers_are_lost_over_and_over_is_set_aside_and_never_passed() -> None:
    fleet = Fleet()
    bad = fleet.names[1]
    executor = ScriptedExecutor(fleet.book, lambda name, _: "lost" if name == bad else "done")
    drained = Head(fleet.book, fleet.plan, executor, Crew()).run()
    assert executor.started.count(bad) == LOSSES
    assert drained.aside.keys() == {bad}
    assert fleet.book.settled() == set(fleet.names) - {bad}
    assert "workers were lost" in fleet.book.aside()[bad]
    assert drained.lost == LOSSES


def test_what_was_set_aside_is_tried_by_the_next_run_and_taken_up() -> None:
    fleet = Fleet()
    bad = fleet.names[0]
    broken = ScriptedExecutor(fleet.book, lambda name, _: "failed" if name == bad else "done")
    Head(fleet.book, fleet.plan, broken, Crew()).run()
    assert broken.started.count(bad) == FAILURES
    assert fleet.book.aside().keys() == {bad}
    Head(fleet.book, fleet.plan, ScriptedExecutor(fleet.book), Crew()).run()
    assert fleet.book.aside() == {}
    assert fleet.book.settled() == set(fleet.names)


def test_what_no_worker_could_do_better_ends_the_run_and_says_so() -> None:
    fleet = Fleet()
    executor = ScriptedExecutor(fleet.book, lambda _name, turn: "fatal")
    with pytest.raises(EngineError, match="it was told to; mend it and run again"):
        Head(fleet.book, fleet.plan, executor, Crew()).run()


def test_a_verdict_that_vanishes_after_it_was_told_is_made_again() -> None:
    fleet = Fleet()
    victim = fleet.names[0]

    def vanish(name: str, _turn: int) -> str:
        if name == fleet.names[-1]:
            fleet.objects.delete(f"verdicts/{victim}")
        return "done"

    Head(fleet.book, fleet.plan, ScriptedExecutor(fleet.book, vanish), Crew()).run()
    assert fleet.book.settled() == set(fleet.names)


def test_no_more_shards_are_handed_out_than_there_are_workers() -> None:
    fleet = Fleet()
    executor = ScriptedExecutor(fleet.book, workers=3)
    Head(fleet.book, fleet.plan, executor, Crew(least=3, most=3)).run()
    assert executor.most == 3


def test_a_deadline_hires_workers_and_lets_them_go_as_the_backlog_falls() -> None:
    fleet = Fleet(shard_tokens=6)
    executor = ScriptedExecutor(fleet.book)
    Head(fleet.book, fleet.plan, executor, Crew(least=1, most=5, within=2.0)).run()
    assert max(executor.sizes) == 5
    assert executor.sizes[-1] == 1


def test_the_parts_of_all_pods_are_the_plan() -> None:
    plan = Fleet(shard_tokens=6).plan
    parts = [part_of(plan, pod, 3).tickets for pod in range(3)]
    assert {ticket for part in parts for ticket in part} == set(plan.tickets)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(ConfigError, match="no pod 3 of 3"):
        part_of(plan, 3, 3)


@given(
    moves=st.lists(st.tuples(st.sampled_from(["done", "lost", "failed"]), st.integers(0, 99))),
    count=st.integers(0, 8),
)
def test_a_shard_is_always_in_exactly_one_place(moves: list[tuple[str, int]], count: int) -> None:
    names = [f"s{n}" for n in range(count)]
    queue = Queue.of(names, names[:1])
    for move, pick in moves:
        while len(queue.running) < 2 and queue.next() is not None:
            pass
        if not queue.running:
            break
        name = sorted(queue.running)[pick % len(queue.running)]
        if move == "done":
            queue.done(name)
        elif move == "lost":
            queue.lost(name, "gone")
        else:
            queue.failed(name, "why")
        places = [*queue.waiting, *queue.running, *queue.settled, *queue.aside]
        assert sorted(places) == names


def test_workers_for_a_backlog_meet_the_deadline_within_the_bounds() -> None:
    crew = Crew(least=1, most=10, within=100.0)
    assert wanted(10_000, 50, 20.0, crew) == 5
    assert wanted(10_001, 50, 20.0, crew) == 6
    assert wanted(10_000_000, 50, 20.0, crew) == 10
    assert wanted(10_000, 3, 20.0, crew) == 3
    assert wanted(1, 1, 20.0, Crew(least=4, most=10, within=100.0)) == 1


def test_nobody_is_wanted_for_nothing_and_the_fewest_before_anything_is_known() -> None:
    crew = Crew(least=2, most=10, within=100.0)
    assert wanted(0, 0, 20.0, crew) == 0
    assert wanted(10_000, 50, None, crew) == 2
    assert wanted(10_000, 50, 20.0, Crew(least=2, most=10)) == 2
    assert drain_seconds(10_000, None, 2) is None
    assert drain_seconds(10_000, 20.0, 5) == 100.0
    assert drain_seconds(0, None, 0) == 0.0


def test_the_state_says_how_far_it_is_and_how_many_workers_the_rest_needs() -> None:
    fleet = Fleet()
    fleet.settle(fleet.names[:2])
    fleet.book.set_aside(fleet.names[2], "the record is not there")
    status = status_of(fleet.book, Crew(least=1, most=9, within=1.0))
    tokens = fleet.plan.tickets[0].tokens
    assert (status.settled, status.backlog_shards) == (2, len(fleet.names) - 2)
    assert status.backlog_tokens == fleet.plan.tokens - 2 * tokens
    # A made-up verdict took half a second.
    assert status.tokens_per_worker_second == 2 * tokens
    assert status.wanted_workers == 2
    assert status.aside == {fleet.names[2]: "the record is not there"}
    assert not status.complete
    fleet.settle(fleet.names)
    done = status_of(fleet.book, Crew())
    assert done.complete
    assert (done.aside, done.wanted_workers, done.drain_seconds) == ({}, 0, 0.0)
