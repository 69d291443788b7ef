"""A release broken off at every write: no key leaves twice; what is lost needs new approvals."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from grant_world import World

from tidegate.errors import TidegateError
from tidegate.ledger import Fault, MemoryStore, SqliteStore
from tidegate.transparency.store_memory import MemoryStore as LogMemory
from tidegate.transparency.store_sqlite import SqliteStore as LogSqlite
from tidegate.vault.grant_entries import Request
from tidegate.vault.grant_errors import GrantError, RefusedError
from tidegate.vault.grant_state import Status
from tidegate.vault.release_seal import opened

BEFORE = 5
"""Writes until a request is approved: policy, manifest, request, two approvals."""
WRITES = 2
"""Writes of a release: the challenge, and the release itself."""


def prepared(breaks: Callable[[int], Fault | None], which: str) -> tuple[World, Request]:
    """An approved request in a world whose journal or log breaks after it."""
    quiet: Callable[[int], Fault | None] = lambda _: None  # noqa: E731
    world = World(
        MemoryStore(breaks if which == "journal" else quiet),
        LogMemory(breaks if which == "log" else quiet),
    )
    return world, world.approved()


def tried(world: World, request: Request, times: int = 4) -> int:
    """How many packages a host gets that asks again and again, over restarts of the broker."""
    packages = 0
    for attempt in range(times):
        try:
            if attempt:
                world.restart()
            opened(world.machine.private, request.digest, world.release(request))
            packages += 1
        except TidegateError:
            continue
    return packages


def recovered(world: World) -> bool:
    """Whether new approvals give the keys."""
    world.restart()
    return bool(world.leased())


@pytest.mark.parametrize("which", ["journal", "log"])
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("broken", range(BEFORE, BEFORE + WRITES))
def test_a_release_whose_write_fails_gives_each_key_once_at_most(
    which: str, fault: Fault, broken: int
) -> None:
    world, request = prepared(lambda n: fault if n == broken else None, which)
    assert tried(world, request) <= 1
    assert all(world.keys.unwrapped.count(shard) <= 1 for shard in request.shards)
    assert world.broker.grant(request.id).status is Status.LEASED
    assert recovered(world)


@pytest.mark.parametrize("which", ["journal", "log"])
def test_nothing_is_unwrapped_while_a_store_cannot_be_written(which: str) -> None:
    world, request = prepared(lambda n: Fault.NOT_PERSISTED if n > BEFORE else None, which)
    assert tried(world, request) == 0
    assert world.keys.unwrapped == []


def test_a_release_that_the_store_kept_but_did_not_confirm_is_spent() -> None:
    """The one case in which keys are lost: nobody may know that they did not leave."""
    world, request = prepared(lambda n: Fault.PERSISTED if n == BEFORE + 1 else None, "journal")
    with pytest.raises(TidegateError):
        world.release(request)
    world.restart()
    with pytest.raises(RefusedError, match="needs a new request and new approvals"):
        world.release(request)
    assert world.keys.unwrapped == []
    assert recovered(world)


def test_keys_that_the_key_service_failed_to_unwrap_are_not_asked_for_again() -> None:
    world = World()
    request = world.approved()
    world.keys.broken = True
    with pytest.raises(GrantError, match="away"):
        world.release(request)
    world.keys.broken = False
    with pytest.raises(RefusedError, match="needs a new request"):
        world.release(request)
    assert recovered(world)


def test_what_the_log_missed_is_published_after_a_restart() -> None:
    world, request = prepared(lambda n: Fault.NOT_PERSISTED if n == BEFORE + 1 else None, "log")
    with pytest.raises(TidegateError):
        world.release(request)
    world.restart()
    kinds = [entry["does"]["kind"] for entry in world.published()]  # type: ignore[index]
    assert kinds[-2:] == ["challenge", "release"]
    assert [entry["n"] for entry in world.published()] == list(range(len(kinds)))


def test_two_brokers_over_one_store_release_once_between_them() -> None:
    world = World()
    request = world.approved()
    other = world.opened()
    evidence = world.evidence(request)
    packages = 0
    for broker in (world.broker, other):
        try:
            broker.release("alice", request.id, evidence, world.machine.public)
            packages += 1
        except RefusedError:
            continue
    assert packages == 1
    assert world.keys.unwrapped == [0, 2]


def test_a_broker_killed_at_any_statement_of_its_stores_releases_once(tmp_path: Path) -> None:
    """Real files, and a real kill before each statement that SQLite is given."""
    first = tmp_path / "approved"
    first.mkdir()
    world = World(SqliteStore(first / "journal.db"), LogSqlite(first / "log.db"))
    request = world.approved()
    killed = True
    at = 0
    while killed:
        folder = tmp_path / str(at)
        shutil.copytree(first, folder)
        sent, killed = _release_in_child(world, folder, request, at)
        world.store, world.log_store = (
            SqliteStore(folder / "journal.db"),
            LogSqlite(folder / "log.db"),  # type: ignore[assignment]
        )
        world.restart()
        sent += tried(world, request, times=2)
        assert sent <= 1, f"killed at statement {at}"
        lost = world.broker.grant(request.id).status is Status.LEASED and not sent
        assert sent or lost
        if lost:
            assert recovered(world)
        at += 1
    assert at > 20  # it did get to kill


def _release_in_child(world: World, folder: Path, request: Request, at: int) -> tuple[int, bool]:
    """Packages that left a child that is killed at statement `at`, and whether it was."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _counted_connections(at)
        world.store = SqliteStore(folder / "journal.db")
        world.log_store = LogSqlite(folder / "log.db")  # type: ignore[assignment]
        world.broker = world.opened()
        os.write(writing, b"." if world.release(request) else b"")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        sent = len(pipe.read())
    _, status = os.waitpid(child, 0)
    return sent, os.WIFSIGNALED(status)


def _counted_connections(at: int) -> None:
    connect, left = sqlite3.connect, [at]

    def tick(_: str) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def counted(*args: object, **kwargs: object) -> sqlite3.Connection:
        made = connect(*args, **kwargs)  # type: ignore[arg-type]
        made.set_trace_callback(tick)
        return made

    sqlite3.connect = counted  # type: ignore[assignment]
