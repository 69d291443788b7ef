"""A real Ray cluster of one machine: its workers killed, its shards settled once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fleet_world import SECRET
from replay_world import Served, job, world

from tidegate.bench.fleet_killed import Onlooker, descendants, named
from tidegate.cli.fleet_run import make_plan, post_of
from tidegate.cli.verify_asked import Asked
from tidegate.verify.fleet_book import Book
from tidegate.verify.fleet_head import Head
from tidegate.verify.fleet_scale import Crew
from tidegate.verify.fleet_store_files import FileObjects
from tidegate.verify.replay_model import Spec

pytest.importorskip("ray", reason="the fleet on Ray is tested with tidegate[ray]: make venv")


WORKERS = 4
"""More than a small machine has processors for: those that wait must hold no shard up."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    made = world(tmp_path_factory.mktemp("ray"))
    made.serve([job(f"r{n}", tokens=6, ignore_eos=True) for n in range(10)])
    return made


def actors() -> Iterator[int]:
    return (pid for pid in descendants(os.getpid()) if named(pid).startswith(b"ray::Hand"))


def test_workers_killed_on_a_ray_cluster_lose_no_verdict_and_make_none_twice(
    served: Served, tmp_path: Path
):
    from tidegate.verify.fleet_ray import RayExecutor

    key, fleet = tmp_path / "fleet.key", tmp_path / "fleet"
    key.write_bytes(SECRET)
    spec = Spec("exact", str(served.model), threads=1)
    asked = Asked(log=served.log, key=served.key, spec=spec)
    plan = make_plan(str(served.log), str(fleet), key, asked, 40)
    book = Book(FileObjects(fleet), SECRET)
    killed: list[int] = []

    def kill(settled: int, planned: int) -> None:
        # Whoever works or waits after the first verdict, once.
        if settled and not killed:
            killed.extend(actors())
            for pid in killed:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    onlooker = Onlooker(fleet / "verdicts")
    executor = RayExecutor(post_of(str(served.log), str(fleet), key, None, None, 1, 60.0), WORKERS)
    try:
        with onlooker.looking():
            drained = Head(book, plan, executor, Crew(least=WORKERS, most=WORKERS), kill).run()
    finally:
        executor.close()
    assert killed
    assert drained.lost >= 1
    assert drained.aside == {}
    assert book.settled() == {ticket.name for ticket in plan.tickets}
    assert onlooker.twice == set()
    for ticket in plan.tickets:
        verdict = book.verdict(ticket.name, plan.subject)
        assert verdict is not None
        assert all(one.findings == () and one.tokens == 6 for one in verdict.checked)
