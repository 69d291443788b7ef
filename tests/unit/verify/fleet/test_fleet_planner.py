"""Cutting a record: what a worker reads back is what a verifier of the whole record would take."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from fractions import Fraction

import pytest
from fleet_world import SECRET, SUBJECT, Fleet, planned, record
from hypothesis import given
from hypothesis import strategies as st
from record_world import (
    EXPECTED,
    KEY,
    ORIGIN,
    STACK,
    RecordWorld,
    beginning,
    lines_of,
    with_lines,
)

from tidegate.errors import RecordError
from tidegate.record.entries import End, Prefill, Reason, Tokens
from tidegate.verify import record_lines
from tidegate.verify.fleet_answers import tasks_of
from tidegate.verify.fleet_book import Book
from tidegate.verify.fleet_plan import Plan
from tidegate.verify.fleet_planner import MAX_ANSWERS
from tidegate.verify.fleet_store import StoreError
from tidegate.verify.fleet_store_memory import Fault, MemoryObjects
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_store import Source
from tidegate.verify.replay_answer import Checked, Rule, Task
from tidegate.verify.replay_run import Choice, Run
from tidegate.verify.replay_tally import Tally
from tidegate.verify.selection import Policy


class Noted:
    """An executor that keeps what it is handed."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self._unheard: deque[Checked] = deque()

    def room(self) -> bool:
        return True

    def pending(self) -> int:
        return len(self._unheard)

    def put(self, task: Task) -> None:
        self.tasks.append(task)
        self._unheard.append(Checked(response=task.response, digest=task.digest.hex()))

    def take(self, timeout: float | None = None) -> Checked | None:
        return self._unheard.popleft() if self._unheard else None


def verified(source: Source, rate: Fraction = Fraction(1)) -> list[Task]:
    """What `tidegate verify` would re-execute."""
    noted = Noted()
    choice = Choice(origin=ORIGIN, policy=Policy(rate, "message"), secret=bytes(32))
    reader = Reader(source, KEY, expected=EXPECTED)
    run = Run(reader, noted, Tally(), choice, vocab_size=STACK.vocabulary)
    run.round()
    run.finish()
    return noted.tasks


def read_back(source: Source, book: Book, plan: Plan) -> list[Task]:
    """What the workers re-execute, shard by shard."""
    return [
        task
        for ticket in plan.tickets
        for task in tasks_of(source, book.shard(ticket.name), vocab_size=plan.vocab_size)
    ]


def book() -> Book:
    return Book(MemoryObjects(), SECRET)


def interleaved(moves: Iterable[int], segment_bytes: int) -> RecordWorld:
    """A record in which answers run at once: each move begins, goes on with, or ends one."""
    world = RecordWorld(segment_bytes=segment_bytes)
    live: dict[int, int] = {}
    for count, move in enumerate(moves):
        world.clock.advance(0.01)
        if move % 3 == 0 or not live:
            (number,) = world.put(beginning(f"r{count}", prompt=tuple(range(1 + move % 7))))
            world.put(Prefill(number, "0" * 32, 1, 7, 0, 0, ()))
            live[number] = 0
            continue
        number = sorted(live)[move % len(live)]
        if move % 3 == 1:
            ids = tuple(range(1 + move % 5))
            if live[number] + len(ids) <= 64:
                world.put(Tokens(number, live[number], None, ids))
                live[number] += len(ids)
        else:
            world.put(End(number, Reason.STOP, "", live.pop(number), 40))
    for number, tokens in live.items():
        world.put(End(number, Reason.CANCELLED, "", tokens, 40))
    return world


@given(
    moves=st.lists(st.integers(0, 99), min_size=1, max_size=40),
    segment_bytes=st.sampled_from([700, 3_000, 1 << 20]),
    chunk=st.sampled_from([300, 1_000, 1 << 20]),
    shard_tokens=st.integers(1, 60),
)
def test_workers_read_back_what_a_verifier_of_the_whole_record_takes_in_its_order(
    moves: list[int], segment_bytes: int, chunk: int, shard_tokens: int
) -> None:
    world = interleaved(moves, segment_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_lines, "READ", chunk)
        kept = book()
        plan = planned(world.store, kept, shard_tokens)
        assert plan.findings == {}
        assert read_back(world.store, kept, plan) == verified(world.store)


def test_of_a_share_exactly_the_drawn_answers_are_in_shards() -> None:
    world, kept = record([2] * 40), book()
    plan = planned(world.store, kept, 20, rate=Fraction(1, 4))
    tasks = read_back(world.store, kept, plan)
    assert tasks == verified(world.store, Fraction(1, 4))
    assert 0 < len(tasks) < 40
    assert plan.answers == len(tasks)


def test_a_record_that_grew_is_cut_into_the_same_shards_and_more() -> None:
    world, kept = record([3] * 10), book()
    before = planned(world.store, kept, 12)
    for number in range(10, 15):
        world.answer(f"r{number}", (1, 2, 3))
    after = planned(world.store, kept, 12)
    # All but the last were full.
    assert after.tickets[: len(before.tickets) - 1] == before.tickets[:-1]
    assert after.answers == 15


def test_another_rule_model_or_selection_gives_shards_other_names() -> None:
    fleet = Fleet()
    shard = fleet.book.shard(fleet.names[0])
    others = {
        shard.name(SUBJECT),
        *(
            shard.name(type(SUBJECT)(**{**as_fields(), **change}))  # type: ignore[arg-type]
            for change in (
                {"model": "d" * 64},
                {"rule": Rule(margin=0.5)},
                {"rate": "1/2"},
                {"record": "other"},
            )
        ),
    }
    assert len(others) == 5


def as_fields() -> dict[str, object]:
    return {name: getattr(SUBJECT, name) for name in SUBJECT.__struct_fields__}


def test_a_shard_holds_so_many_answers_at_most() -> None:
    world, kept = record([1] * (MAX_ANSWERS + 3)), book()
    plan = planned(world.store, kept, 1 << 40)
    assert [ticket.answers for ticket in plan.tickets] == [MAX_ANSWERS, 3]


def test_a_worker_reads_only_the_stretch_where_its_answers_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_lines, "READ", 1_000)
    world, kept = record([3] * 60), book()
    plan = planned(world.store, kept, 24)
    read = 0

    class Counted:
        def segments(self) -> tuple[int, ...]:
            return world.store.segments()

        def read(self, segment: int, offset: int, limit: int) -> bytes:
            nonlocal read
            data = world.store.read(segment, offset, limit)
            read += len(data)
            return data

    for ticket in plan.tickets:
        tasks_of(Counted(), kept.shard(ticket.name), vocab_size=plan.vocab_size)
    whole = sum(len(world.store.read(s, 0, 1 << 30)) for s in world.store.segments())
    assert read < whole + 2_500 * len(plan.tickets)


def test_an_answer_that_changed_since_it_was_planned_is_refused_by_name() -> None:
    fleet = Fleet()
    lines = [
        line.replace(b'"ids":[2]', b'"ids":[7]')
        for line in lines_of(fleet.world.store)  # type: ignore[arg-type]
    ]
    shard = fleet.book.shard(fleet.names[0])
    with pytest.raises(RecordError, match="not what was planned") as raised:
        tasks_of(with_lines(lines), shard, vocab_size=STACK.vocabulary)
    assert raised.value.details == {"answer": shard.answers[0].number}


def test_an_answer_that_is_gone_since_it_was_planned_is_refused_by_name() -> None:
    fleet = Fleet()
    lines = lines_of(fleet.world.store)[:20]  # type: ignore[arg-type]
    shard = fleet.book.shard(fleet.names[-1])
    with pytest.raises(RecordError, match="not where it was"):
        tasks_of(with_lines(lines), shard, vocab_size=STACK.vocabulary)


def test_a_poisoned_line_of_the_record_is_counted_and_its_answer_planned_nowhere() -> None:
    world, kept = record([3] * 6), book()
    lines = lines_of(world.store)  # type: ignore[arg-type]
    place = next(n for n, line in enumerate(lines) if b'"tokens"' in line and b'"ids"' in line)
    lines[place] = b"E " + b"\xff" * 70 + b"\n"
    plan = planned(with_lines(lines), kept, 12)
    assert plan.findings["corrupt"] >= 1
    assert plan.answers < 6


@pytest.mark.parametrize("fault", [Fault.NOT_DONE, Fault.DONE, Fault.TORN])
def test_a_plan_broken_at_any_write_is_the_same_plan_once_it_is_made_again(fault: Fault) -> None:
    world = record([3] * 6)
    whole = planned(world.store, book(), 12)
    for broken in range(len(whole.tickets) + 1):
        told = iter(range(1_000))
        objects = MemoryObjects(
            lambda _call, _name, told=told, broken=broken: fault if next(told) == broken else None
        )
        kept = Book(objects, SECRET)
        with pytest.raises(StoreError):
            planned(world.store, kept, 12)
        objects.fault = lambda _call, _name: None
        assert planned(world.store, kept, 12) == whole == kept.plan()
        assert read_back(world.store, kept, whole) == verified(world.store)
