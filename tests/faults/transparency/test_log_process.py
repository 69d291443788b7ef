"""The log's file under kill -9, two processes, a full disk and damage."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from log_world import SIGNER

from tidegate.clock import ManualClock
from tidegate.ledger import SqliteStore as LedgerStore
from tidegate.transparency.entry import Kind
from tidegate.transparency.errors import LogError
from tidegate.transparency.log import Log
from tidegate.transparency.store_sqlite import SqliteStore
from tidegate.transparency.tree import leaf_hash, root_of

PROGRAM = Path(__file__).with_name("log_process.py")
SIMULATORS = Path(__file__).parents[2] / "simulators"


def start(path: Path, first: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path), str(first)],
        env={**os.environ, "PYTHONPATH": str(SIMULATORS)},
        stdout=subprocess.PIPE,
        text=True,
    )


def whole(path: Path) -> tuple[Log, list[bytes]]:
    log = Log(SqliteStore(path), ManualClock())
    leaves = [leaf_hash(logged.raw) for logged in log.entries()]
    assert log.root(len(leaves)) == root_of(leaves)
    return log, leaves


def test_two_writers_killed_at_any_point_leave_one_log_with_all_that_they_said(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    SqliteStore(path).close()
    said: list[list[str]] = []
    for lines in (2, 7):
        # Both tell the same events, as a broker does that was started again.
        workers = [start(path, 0), start(path, 3)]
        for worker in workers:
            assert worker.stdout is not None
            said.extend(worker.stdout.readline().split() for _ in range(lines))
        for worker in workers:
            worker.kill()
            rest, _ = worker.communicate()
            said.extend(line.split() for line in rest.splitlines() if line.count(" ") == 2)
        log, leaves = whole(path)
        logged = [one.entry.body["n"] for one in log.entries()]
        assert len(set(logged)) == len(logged)
        assert {int(n) for n, _, _ in said} <= set(logged)
        for _, size, root in said:
            assert root_of(leaves[: int(size)]).hex() == root


def test_a_full_disk_loses_nothing_that_was_said_to_be_logged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = Log(SqliteStore(path), ManualClock())
    log.append(Kind.GRANT, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    done = 0

    def fill() -> None:
        nonlocal done
        while done < 10_000:
            log.append(Kind.GRANT, {"text": "x" * 1_000, "n": done}, once=f"{done}")
            done += 1

    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 16_384, hard))
    try:
        with pytest.raises(LogError):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done > 0
    assert (
        log.append(Kind.GRANT, {"text": "x" * 1_000, "n": done}, once=f"{done}").index == done + 1
    )
    assert len(whole(path)[1]) == done + 2


def test_a_restored_copy_without_its_checkpoint_does_not_pass_for_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = Log(SqliteStore(path), ManualClock())
    log.append(Kind.GRANT, {"n": 0})
    older = path.read_bytes()
    log.append(Kind.GRANT, {"n": 1})
    log.sign(SIGNER)
    path.write_bytes(older)
    with pytest.raises(LogError):
        log.append(Kind.GRANT, {"n": 2})


@pytest.mark.parametrize(
    "raw", [b"not a database, but longer than a header" * 9, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(raw)
    with pytest.raises(LogError):
        SqliteStore(path)


def test_a_ledger_is_not_taken_for_a_log(tmp_path: Path) -> None:
    LedgerStore(tmp_path / "ledger.db").close()
    with pytest.raises(LogError, match="not a Tidegate log"):
        SqliteStore(tmp_path / "ledger.db")
