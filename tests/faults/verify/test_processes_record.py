"""The record's files under kill -9, a full disk, and damage."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from record_world import RecordWorld, beginning, read_all

from tidegate.errors import RecordError
from tidegate.record.entries import End, Reason, Tokens
from tidegate.verify.record_findings import Kind
from tidegate.verify.record_store_files import FileSource, FileStore

WORKER = Path(__file__).with_name("worker.py")
SIMULATORS = Path(__file__).parents[2] / "simulators"


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SIMULATORS)},
    )


def test_killed_at_any_point_it_has_recorded_all_that_was_sent(tmp_path: Path) -> None:
    dice = random.Random(5)
    sent: dict[str, list[int]] = {}
    for _ in range(3):
        worker = start(tmp_path)
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(dice.randrange(2, 40))]
        worker.kill()
        rest, _ = worker.communicate()
        for line in [*lines, *rest.splitlines()]:
            if len(words := line.split()) == 2:
                sent.setdefault(words[0], []).append(int(words[1]))
    store = FileStore(tmp_path)
    RecordWorld(store=store).open()
    responses, summary = read_all(store)
    store.close()
    assert summary.sound, summary.findings
    recorded = {response.begin.request: response.tokens for response in responses}
    for name, tokens in sent.items():
        assert list(recorded[name][: len(tokens)]) == tokens
        assert len(recorded[name]) <= len(tokens) + 1


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    world = RecordWorld(store=store)
    (number,) = world.put(beginning("r1"))
    sent: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / f"{0:020d}.log").stat().st_size

    def send_until_refused() -> None:
        while len(sent) < 60:
            world.put(Tokens(number, len(sent), None, (1 + len(sent),)))
            sent.append(1 + len(sent))

    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1_000, hard))
    try:
        with pytest.raises(RecordError):
            send_until_refused()
        with pytest.raises(RecordError):
            world.open()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < len(sent) < 60
    world.open()
    (response,), summary = read_all(store)
    store.close()
    assert summary.sound
    assert response.tokens == tuple(sent)
    assert response.end.reason is Reason.CUT


def test_a_torn_last_line_is_dropped_on_opening_and_named_before(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    world = RecordWorld(store=store)
    world.answer("r1", [1, 2, 3])
    with (tmp_path / f"{0:020d}.log").open("ab") as file:
        file.write(b"E 0123")
    assert Kind.TRUNCATED in read_all(FileSource(tmp_path))[1].counts
    world.open()
    responses, summary = read_all(FileSource(tmp_path))
    store.close()
    assert summary.sound
    assert [response.tokens for response in responses] == [(1, 2, 3)]


def test_an_answer_whose_writer_died_is_recorded_as_cut_off(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    world = RecordWorld(store=store)
    (number,) = world.put(beginning("r1"))
    world.put(Tokens(number, 0, None, (7, 8)))
    assert Kind.UNFINISHED in read_all(store)[1].counts
    world.open()
    (response,), summary = read_all(store)
    store.close()
    assert summary.sound
    assert response.end == End(number, Reason.CUT, "", 2, 0)
