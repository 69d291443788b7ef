"""Real workers on a real (small) model: killed, poisoned, hung, on a store that breaks."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fleet_world import SECRET
from replay_world import Served, job, world
from typer.testing import CliRunner

from tidegate.cli.fleet_run import make_plan, post_of
from tidegate.cli.main import app
from tidegate.cli.verify_asked import Asked
from tidegate.clock import SystemClock
from tidegate.errors import ConfigError, EngineError, ModelError
from tidegate.verify.fleet_book import Book, Verdict
from tidegate.verify.fleet_executor import Done, Failed, Post
from tidegate.verify.fleet_head import Head
from tidegate.verify.fleet_local import LocalExecutor
from tidegate.verify.fleet_plan import Ticket
from tidegate.verify.fleet_scale import Crew
from tidegate.verify.fleet_store_files import FileObjects
from tidegate.verify.fleet_store_memory import Fault, MemoryObjects
from tidegate.verify.fleet_worker import Worker, source_of
from tidegate.verify.replay_answer import Rule
from tidegate.verify.replay_model import Spec
from tidegate.verify.replay_pool import Pool

ANSWERS = 12


@dataclass
class Planned:
    """A served record and its plan in a folder."""

    served: Served
    fleet: Path
    post: Post
    book: Book

    @property
    def names(self) -> list[str]:
        return [ticket.name for ticket in self.book.plan().tickets]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    made = world(tmp_path_factory.mktemp("fleet"))
    made.serve([job(f"r{n}", tokens=8, ignore_eos=True) for n in range(ANSWERS)])
    return made


@pytest.fixture(scope="module")
def drawn(served: Served) -> Path:
    """A folder with key and plan, for every test to copy."""
    folder = served.folder / "drawn"
    folder.mkdir()
    (folder / "fleet.key").write_bytes(SECRET)
    spec = Spec("exact", str(served.model), threads=1)
    asked = Asked(log=served.log, key=served.key, spec=spec)
    make_plan(str(served.log), str(folder / "fleet"), folder / "fleet.key", asked, 60)
    return folder


@pytest.fixture
def planned(served: Served, drawn: Path, tmp_path: Path) -> Planned:
    fleet = tmp_path / "fleet"
    shutil.copytree(drawn / "fleet", fleet)
    post = post_of(str(served.log), str(fleet), drawn / "fleet.key", None, None, 1, 60.0)
    return Planned(served, fleet, post, Book(FileObjects(fleet), SECRET))


def with_post(planned: Planned, **changes: object) -> Post:
    return msgspec.structs.replace(planned.post, **changes)


def verdict(planned: Planned, name: str) -> Verdict:
    made = planned.book.verdict(name, planned.book.plan().subject)
    assert made is not None
    return made


def report(planned: Planned) -> tuple[int, str]:
    """The report's exit status and what it says."""
    done = CliRunner().invoke(
        app,
        (
            *("fleet", "report", planned.post.record, planned.post.fleet, "--json"),
            *("--fleet-key", planned.post.fleet_key, "--key", str(planned.served.key)),
        ),
    )
    return done.exit_code, done.stdout or str(done.exception)


def test_workers_on_this_machine_settle_all_and_the_report_is_the_verifiers(planned: Planned):
    executor = LocalExecutor(planned.post, SystemClock(), 2)
    drained = Head(planned.book, planned.book.plan(), executor, Crew(least=2, most=2)).run()
    executor.close()
    assert drained.fresh == drained.settled == len(planned.names) > 2
    status, said = report(planned)
    assert status == 0, said
    alone = CliRunner().invoke(
        app,
        (
            *("verify", planned.post.record, "--json", "--key", str(planned.served.key)),
            *("--model", f"exact:{planned.served.model}", "--threads", "1"),
        ),
    )
    assert alone.stdout == said


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int, int], None]:
    """Has whoever is handed answer `number` get `signal`, so many times; stopped until then."""
    send = Pool._send

    def arm(number: int, signalled: int, times: int) -> None:
        left = [times]

        def sent(worker: Any, raw: bytes) -> None:
            struck = worker.job is not None and worker.job.task.response == number and left[0] > 0
            if struck:
                left[0] -= 1
                os.kill(worker.process.pid, signal.SIGSTOP)
            send(worker, raw)
            if struck:
                os.kill(worker.process.pid, signalled)

        monkeypatch.setattr(Pool, "_send", staticmethod(sent))

    return arm


def test_a_process_killed_over_an_answer_costs_nothing_but_time(planned: Planned, deadly):
    name = planned.names[0]
    first = planned.book.shard(name).answers[0].number
    with Worker(planned.post, SystemClock(), name="one") as worker:
        deadly(first, signal.SIGKILL, 1)
        event = worker.check(name)
    assert isinstance(event, Done)
    assert planned.book.poisoned() == {}
    assert all(one.tokens == 8 for one in verdict(planned, name).checked)


@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGSTOP], ids=["kills", "hangs"])
def test_a_poisoned_answer_is_named_and_counted_and_its_record_does_not_pass(
    planned: Planned, deadly, signalled: signal.Signals
):
    post = with_post(planned, patience=2.0)
    name = planned.names[1]
    numbers = [answer.number for answer in planned.book.shard(name).answers]
    with Worker(post, SystemClock(), name="one") as worker:
        deadly(numbers[1], signalled, 2)
        assert all(isinstance(worker.check(other), Done) for other in planned.names)
    found = {one.response: [f.kind for f in one.findings] for one in verdict(planned, name).checked}
    assert found == {number: ["worker_lost"] * (number == numbers[1]) for number in numbers}
    ((poison,),) = planned.book.poisoned().values()
    assert poison.answer == numbers[1]
    status, said = report(planned)
    assert status == 2
    assert '"worker_lost":1' in said


def test_a_worker_with_other_weights_than_were_planned_with_is_refused(planned: Planned):
    plan = planned.book.plan()
    subject = msgspec.structs.replace(plan.subject, model="0" * 64)
    planned.book.put_plan(msgspec.structs.replace(plan, subject=subject))
    with pytest.raises(ModelError, match="not the one the plan was made with"):
        Worker(planned.post, SystemClock(), name="one").__enter__()


@pytest.mark.parametrize("fault", [Fault.NOT_DONE, Fault.DONE])
def test_a_store_that_breaks_while_a_verdict_is_kept_loses_none_and_makes_none_twice(
    planned: Planned, fault: Fault
):
    objects = MemoryObjects()
    files = FileObjects(planned.fleet)
    objects.data = {name: files.read(name) for name in files.names("")}
    book = Book(objects, SECRET)
    name = planned.names[0]
    with Worker(planned.post, SystemClock(), name="one", book=book) as worker:
        objects.fault = lambda call, _name: fault if call == "create" else None
        event = worker.check(name)
        assert isinstance(event, Failed)
        assert event.fatal
        objects.fault = lambda _call, _name: None
        event = worker.check(name)
    assert isinstance(event, Done)
    assert objects.created.count(f"verdicts/{name}") == 1
    assert book.settled() == {name}


def test_a_record_that_cannot_be_read_is_the_shards_fault_not_the_fleets(
    planned: Planned, tmp_path: Path
):
    cut = tmp_path / "cut"
    shutil.copytree(planned.served.log, cut)
    (segment,) = cut.glob("*.log")
    segment.write_bytes(segment.read_bytes()[:4_000])
    with Worker(with_post(planned, record=str(cut)), SystemClock(), name="one") as worker:
        event = worker.check(planned.names[-1])
    assert isinstance(event, Failed)
    assert not event.fatal
    assert "not where it was" in event.reason


def test_a_worker_that_began_under_an_older_plan_settles_nothing_under_a_newer_one(
    planned: Planned,
):
    with Worker(planned.post, SystemClock(), name="one") as worker:
        plan = planned.book.plan()
        subject = msgspec.structs.replace(plan.subject, rule=Rule(margin=0.5))
        shard = planned.book.shard(planned.names[0])
        ticket = Ticket(shard.name(subject), len(shard.answers), shard.tokens)
        planned.book.put_shard(ticket, shard)
        event = worker.check(ticket.name)
    assert isinstance(event, Failed)
    assert event.fatal
    assert planned.book.settled() == set()


def test_a_place_without_a_record_is_no_empty_record(tmp_path: Path):
    with pytest.raises(ConfigError, match="no record at"):
        source_of(str(tmp_path / "nothing"))


def test_what_keeps_every_worker_from_beginning_ends_the_run(planned: Planned):
    post = with_post(planned, fleet_key=str(planned.fleet / "no.key"))
    executor = LocalExecutor(post, SystemClock(), 1)
    with pytest.raises(EngineError, match="cannot read the key"):
        Head(planned.book, planned.book.plan(), executor, Crew()).run()
    executor.close()


def test_without_all_verdicts_there_is_no_report(planned: Planned):
    with Worker(planned.post, SystemClock(), name="one") as worker:
        worker.check(planned.names[0])
    status, said = report(planned)
    assert status != 0
    assert f"{len(planned.names) - 1} of {len(planned.names)} shards have no verdict" in said
