"""`tidegate fleet`: what it refuses, what it exits with, what it does while a store is down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from fleet_world import SECRET, Fleet, record, verdict_of
from record_world import RecordWorld
from typer.testing import CliRunner

from tidegate.cli import fleet_run
from tidegate.cli.main import app
from tidegate.errors import ConfigError, RecordError
from tidegate.verify.fleet_scale import Crew
from tidegate.verify.fleet_store import StoreError
from tidegate.verify.fleet_store_files import FileObjects
from tidegate.verify.record_store_files import FileStore
from tidegate.verify.record_store_objects import ObjectSource
from tidegate.verify.replay_findings import ReplayKind, found


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    (tmp_path / "fleet.key").write_bytes(SECRET)
    return Fleet(objects=FileObjects(tmp_path / "fleet"))


def run(folder: Path, command: str, *more: str) -> Result:
    key = ("--fleet-key", str(folder / "fleet.key"))
    return CliRunner().invoke(app, ("fleet", command, *more, str(folder / "fleet"), *key))


def settle(fleet: Fleet, *, poisoned: bool = False) -> None:
    lost = found(ReplayKind.WORKER_LOST, "The replay of this answer died.")
    for number, name in enumerate(fleet.names):
        findings = (lost,) if poisoned and number == 0 else ()
        fleet.book.settle(verdict_of(name, fleet.book.shard(name), findings))


def test_the_state_of_a_sound_fleet_exits_with_0(fleet: Fleet, tmp_path: Path) -> None:
    settle(fleet)
    done = run(tmp_path, "status", "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert (said["settled"], said["backlog_tokens"]) == (len(fleet.names), 0)


def test_poisoned_answers_are_told_and_exit_with_1_until_somebody_opens_them_again(
    fleet: Fleet, tmp_path: Path
) -> None:
    settle(fleet, poisoned=True)
    done = run(tmp_path, "status")
    assert done.exit_code == 1
    assert "worker_lost" in done.stdout
    assert "1 shard to run again" in run(tmp_path, "reopen").stdout
    done = run(tmp_path, "status", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["backlog_shards"] == 1


def test_a_key_that_is_not_there_is_refused_and_none_is_made(tmp_path: Path) -> None:
    done = run(tmp_path, "status")
    assert isinstance(done.exception, ConfigError)
    assert not (tmp_path / "fleet.key").exists()


@pytest.mark.parametrize(
    ("command", "more", "told"),
    [
        ("run", ("record", "--address", "10.0.0.1:6379"), "--on ray"),
        ("status", ("--metrics-port", "9109"), "--every"),
        ("work", ("record", "--pod", "3", "--pods", "3"), "no pod 3 of 3"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    fleet: Fleet, tmp_path: Path, command: str, more: tuple[str, ...], told: str
) -> None:
    done = run(tmp_path, command, *more)
    assert isinstance(done.exception, ConfigError)
    assert told in done.exception.message
    assert fleet.book.settled() == set()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Callable[[], None]]], None]:
    """Has a command that looks again and again do each of these between looks, then end."""

    def arm(between: list[Callable[[], None]]) -> None:
        class Pause:
            def wait(self, _seconds: float) -> bool:
                if not between:
                    raise KeyboardInterrupt
                between.pop(0)()
                return False

        monkeypatch.setattr(fleet_run.threading, "Event", Pause)

    return arm


def test_a_watched_store_that_is_down_is_told_and_looked_at_again(
    fleet: Fleet, tmp_path: Path, turns, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "fleet" / "plan"
    whole = plan.read_bytes()
    turns([lambda: plan.write_bytes(whole[:50]), plan.unlink, lambda: plan.write_bytes(whole)])
    key = tmp_path / "fleet.key"
    fleet_run.watch_status(str(tmp_path / "fleet"), key, Crew(), 15.0, None, as_json=True)
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 2
    assert "does not open with this fleet's key" in told.err
    assert "nothing was planned there" in told.err


def test_a_record_is_shipped_while_it_grows_and_through_a_store_that_is_down(
    tmp_path: Path, turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path / "record")
    world = RecordWorld(store=store)
    world.answer("r0", (1, 2))
    place = str(tmp_path / "shipped")
    create = FileObjects.create

    def down(self: FileObjects, name: str, data: bytes) -> bool:
        raise StoreError("the store is down", again=True)

    def goes_down() -> None:
        world.answer("r1", (1, 2))
        monkeypatch.setattr(FileObjects, "create", down)
        monkeypatch.setattr("tidegate.verify.fleet_store._FIRST_WAIT", 0.0)

    turns([goes_down, lambda: monkeypatch.setattr(FileObjects, "create", create)])
    fleet_run.ship_record(tmp_path / "record", place, 15.0)
    size = len(store.read(0, 0, 1 << 20))
    assert len(ObjectSource(FileObjects(tmp_path / "shipped")).read(0, 0, 1 << 20)) == size
    store.close()


def test_another_record_ends_shipping_and_is_never_put_over_the_first(tmp_path: Path) -> None:
    place = tmp_path / "shipped"
    for number in (3, 5):
        folder = tmp_path / f"record{number}"
        with_answers = record([number])
        files = FileStore(folder)
        files.append(0, 0, with_answers.store.read(0, 0, 1 << 20))
        files.close()
        done = CliRunner().invoke(app, ("fleet", "ship", str(folder), str(place)))
        if number == 3:
            assert done.exit_code == 0
        else:
            assert isinstance(done.exception, RecordError)
