"""One contract, every executor: scripted, a pod of its own, processes of this machine, Ray."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fleet_world import SECRET, ScriptedExecutor
from replay_world import job, world

from tidegate.cli.fleet_run import make_plan, post_of
from tidegate.cli.verify_asked import Asked
from tidegate.clock import SystemClock
from tidegate.units import Timestamp
from tidegate.verify.fleet_book import Book
from tidegate.verify.fleet_executor import Done, Event, Executor, Failed, Post
from tidegate.verify.fleet_local import LocalExecutor
from tidegate.verify.fleet_plan import Plan
from tidegate.verify.fleet_pod import Alone
from tidegate.verify.fleet_store_files import FileObjects
from tidegate.verify.fleet_worker import Worker
from tidegate.verify.replay_model import Spec

PATIENCE = 60


@dataclass
class Case:
    """An executor of one fleet, and its shards that nobody touched yet."""

    executor: Executor
    book: Book
    plan: Plan
    fresh: list[str]
    early: list[Event] = field(default_factory=list)

    def start(self, name: str) -> str:
        """Start a shard once there is room, which on a cluster may take a while."""
        deadline = time.monotonic() + PATIENCE
        while not self.executor.room():
            assert time.monotonic() < deadline
            self.early += self.executor.wait(0.5)
        self.executor.start(name)
        return name

    def heard(self, count: int = 1) -> list[Event]:
        deadline = time.monotonic() + PATIENCE
        events, self.early = self.early, []
        while len(events) < count:
            assert time.monotonic() < deadline
            events += self.executor.wait(0.5)
        return events


class NoWallClock(SystemClock):
    """A clock whose wall time nobody may ask for: machines of a fleet disagree about it."""

    def now(self) -> Timestamp:
        raise AssertionError("a worker asked for the time of day")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = world(tmp_path_factory.mktemp("executors"))
    made.serve([job(f"r{n}", tokens=4, ignore_eos=True) for n in range(8)])
    assert made.key.exists()
    return made.folder


@pytest.fixture(scope="module", params=["scripted", "alone", "local", "ray"])
def case(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    if request.param == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("the fleet on Ray is tested with tidegate[ray]: make venv")
    place = tmp_path_factory.mktemp("fleet")
    (place / "fleet.key").write_bytes(SECRET)
    record, fleet = str(folder / "record"), str(place / "fleet")
    spec = Spec("exact", str(folder / "model"), threads=1)
    asked = Asked(log=folder / "record", key=folder / "record.key.pub", spec=spec)
    plan = make_plan(record, fleet, place / "fleet.key", asked, 1)
    book = Book(FileObjects(Path(fleet)), SECRET)
    post = post_of(record, fleet, place / "fleet.key", None, None, 1, 60.0)
    executor = executor_of(request.param, post, book)
    yield Case(executor, book, plan, [ticket.name for ticket in plan.tickets])
    executor.close()


def executor_of(kind: str, post: Post, book: Book) -> Executor:
    if kind == "scripted":
        return ScriptedExecutor(book)
    if kind == "alone":
        return Alone(Worker(post, NoWallClock(), name="pod", book=book))
    if kind == "local":
        return LocalExecutor(post, NoWallClock(), 1)
    from tidegate.verify.fleet_ray import RayExecutor

    return RayExecutor(post, 1)


def test_nothing_comes_of_nothing(case: Case) -> None:
    assert case.executor.wait(0.0) == ()


def test_a_shard_that_was_started_comes_back_done_with_its_verdict_in_the_book(case: Case) -> None:
    name = case.start(case.fresh.pop())
    (event,) = case.heard()
    assert isinstance(event, Done)
    assert (event.name, event.fresh) == (name, True)
    assert event.tokens == next(t.tokens for t in case.plan.tickets if t.name == name)
    assert case.book.verdict(name, case.plan.subject) is not None


def test_a_shard_that_was_done_before_comes_back_done_and_its_verdict_stays(case: Case) -> None:
    name = case.start(case.fresh.pop())
    case.heard()
    before = case.book.verdict(name, case.plan.subject)
    case.start(name)
    (event,) = case.heard()
    assert isinstance(event, Done)
    assert not event.fresh
    assert case.book.verdict(name, case.plan.subject) == before


def test_there_is_no_room_while_every_worker_has_a_shard(case: Case) -> None:
    case.start(case.fresh.pop())
    assert not case.executor.room()
    case.heard()
    assert case.executor.room()


def test_a_shard_that_there_is_not_comes_back_failed_and_the_worker_goes_on(case: Case) -> None:
    case.start("0" * 40)
    (event,) = case.heard()
    assert isinstance(event, Failed)
    assert not event.fatal
    case.start(case.fresh.pop())
    (event,) = case.heard()
    assert isinstance(event, Done)


def test_more_workers_have_room_for_more_and_fewer_for_fewer(case: Case) -> None:
    if isinstance(case.executor, Alone):
        pytest.skip("a pod is one worker")
    case.executor.resize(2)
    both = {case.start(case.fresh.pop()), case.start(case.fresh.pop())}
    case.executor.resize(1)
    assert {event.name for event in case.heard(2)} == both
    assert case.executor.workers == 1
    assert case.executor.room()
