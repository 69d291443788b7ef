"""A witness as a process: killed at any moment, started again, restored from an old copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from log_world import ORIGIN_HASH, SIGNER, LogWorld

from tidegate.transparency.errors import WitnessError
from tidegate.transparency.http_client import request
from tidegate.transparency.log import Log
from tidegate.transparency.publish import Published, Said, over_http, publish
from tidegate.transparency.tree import consistent
from tidegate.transparency.witness_store_sqlite import SqliteWitnessStore

PROGRAM = Path(__file__).with_name("witness_process.py")
SIMULATORS = Path(__file__).parents[2] / "simulators"


class Process:
    """The witness's process over `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """True once it takes requests; False if it ended instead."""
        ready = self.folder.with_name("ready")
        ready.unlink(missing_ok=True)
        key = SIGNER.verifier.encode()
        self._child = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self.folder), str(ready), key],
            env={**os.environ, "PYTHONPATH": str(SIMULATORS)},
            stderr=subprocess.DEVNULL,
        )
        while not ready.exists():
            if self._child.poll() is not None:
                return False
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{ready.read_text()}"
        return True

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    folder = tmp_path / "witness"
    folder.mkdir()
    made = Process(folder)
    yield made
    made.kill()


def published(world: LogWorld, log: Log, url: str) -> Published:
    witness = replace(world.policy.witnesses[0], url=url)
    return publish(log, SIGNER, replace(world.policy, witnesses=(witness,)), over_http)


def test_killed_while_it_writes_it_still_holds_one_history(process: Process) -> None:
    world = LogWorld(witnesses=1, needed=1)
    world.grow(2)
    notes: list[str] = []
    for moment in (0.0, 0.012):
        assert process.start()
        # Whatever was being written at the kill before, it goes on.
        notes.append(published(world, world.log, process.url).opened.note)
        assert world.policy.open(notes[-1]).quorum
        killer = threading.Timer(moment, process.kill)
        killer.start()
        for _ in range(30):
            world.grow(1)
            done = published(world, world.log, process.url)
            if done.answers[0].said is Said.UNREACHABLE:
                break
            assert done.answers[0].said is Said.COSIGNED
            notes.append(done.opened.note)
        killer.join()
        process.kill()
    assert process.start()
    fork = world.fork(at=1)
    world.grow(world.log.size + 3, fork)
    assert published(world, fork, process.url).answers[0].said in (Said.SPLIT_VIEW, Said.REFUSED)
    assert published(world, world.log, process.url).opened.quorum
    size, root = world.log.size, world.log.root(world.log.size)
    for note in notes:
        point = world.policy.open(note).checkpoint
        assert consistent(
            point.size, point.root, size, root, world.log.consistency(point.size, size)
        )


def test_it_serves_monitors_and_refuses_what_is_no_request(process: Process) -> None:
    world = LogWorld(witnesses=1, needed=1)
    world.grow(3)
    assert process.start()
    path = f"{process.url}/{ORIGIN_HASH}/checkpoint"
    assert request("GET", path, most=1000)[0] == 404
    assert published(world, world.log, process.url).opened.quorum
    status, note = request("GET", path, most=10_000)
    assert status == 200
    assert world.policy.open(note.decode()).quorum
    big = b"old 0\n\n" + b"x" * 200_000
    assert request("POST", f"{process.url}/add-checkpoint", body=big, most=1000)[0] == 413
    assert request("POST", f"{process.url}/add-checkpoint", body=b"", most=1000)[0] == 400
    assert request("GET", f"{process.url}/add-checkpoint", most=1000)[0] == 405
    assert request("GET", f"{process.url}/../anchor", most=1000)[0] == 404


def test_a_folder_restored_from_a_copy_does_not_start_under_a_newer_anchor(
    process: Process, tmp_path: Path
) -> None:
    world = LogWorld(witnesses=1, needed=1)
    for _ in range(3):
        world.grow(1)
        if world.log.size == 2:
            shutil.copy(process.folder / "witness.db", tmp_path / "old.db")
        assert process.start()
        assert published(world, world.log, process.url).opened.quorum
        process.kill()
    shutil.copy(tmp_path / "old.db", process.folder / "witness.db")
    assert not process.start()


def test_two_witnesses_never_share_a_memory(tmp_path: Path) -> None:
    first = SqliteWitnessStore(tmp_path / "w.db")
    with pytest.raises(WitnessError, match="Another"):
        SqliteWitnessStore(tmp_path / "w.db")
    assert SqliteWitnessStore(tmp_path / "w.db", look=True).all() == ()
    first.close()
    SqliteWitnessStore(tmp_path / "w.db").close()


def test_nobody_else_on_the_host_can_read_a_witnesss_memory(tmp_path: Path) -> None:
    SqliteWitnessStore(tmp_path / "w.db").close()
    assert (tmp_path / "w.db").stat().st_mode & 0o077 == 0
