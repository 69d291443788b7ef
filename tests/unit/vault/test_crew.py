"""Processes that share out shards: what they do arrives once, and nothing outlives the parent."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidegate.vault.crew import Tell, share_out
from tidegate.vault.errors import TamperedError, VaultError

KEYS = {number: bytes([number]) for number in range(9)}


def told_nothing(_: int) -> None:
    pass


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_shard_is_done_once_with_its_own_key(workers: int):
    told: list[int] = []

    def work(number: int, key: bytes, tell: Tell) -> bytes:
        tell(number)
        return key + str(number).encode()

    found = list(share_out(range(9), KEYS.__getitem__, work, told.append, workers=workers))
    assert sorted(found) == [(number, KEYS[number] + b"%d" % number) for number in range(9)]
    assert sum(told) == sum(range(9))


def test_the_work_is_done_by_other_processes():
    pids = share_out(range(6), KEYS.__getitem__, _pid, told_nothing, workers=2)
    found = {pid for _, pid in pids}
    assert len(found) == 2
    assert str(os.getpid()).encode() not in found


def _pid(_number: int, _key: bytes, _tell: Tell) -> bytes:
    time.sleep(0.05)
    return str(os.getpid()).encode()


def test_what_a_worker_raises_is_raised_here():
    def tampered(number: int, _key: bytes, _tell: Tell) -> bytes:
        raise TamperedError("not what was sealed", shard=number)

    def full(_number: int, _key: bytes, _tell: Tell) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device", "00001.shard")

    with pytest.raises(TamperedError, match="not what was sealed") as refused:
        list(share_out([3, 4], KEYS.__getitem__, tampered, told_nothing, workers=2))
    assert refused.value.details["shard"] in {3, 4}
    with pytest.raises(OSError, match="No space left") as failed:
        list(share_out([3, 4], KEYS.__getitem__, full, told_nothing, workers=2))
    assert (failed.value.errno, failed.value.filename) == (errno.ENOSPC, "00001.shard")


def test_a_key_that_is_refused_ends_the_workers():
    def key_of(number: int) -> bytes:
        if number == 5:
            raise VaultError("revoked")
        return KEYS[number]

    pids: list[bytes] = []
    with pytest.raises(VaultError, match="revoked"):
        pids.extend(p for _, p in share_out(range(9), key_of, _pid, told_nothing, workers=2))
    assert pids
    assert not any(Path(f"/proc/{pid.decode()}").exists() for pid in pids)


def test_a_killed_worker_is_said_and_its_shard_is_not_called_done():
    def work(number: int, _key: bytes, _tell: Tell) -> bytes:
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return b""

    done = []
    with pytest.raises(VaultError, match="killed"):
        done.extend(n for n, _ in share_out(range(9), KEYS.__getitem__, work, told_nothing))
    assert 1 not in done


_PARENT = """
import os, time
from tidegate.vault.crew import share_out
def work(number, key, tell):
    print(os.getpid(), flush=True)
    time.sleep(60)
list(share_out([0, 1], lambda n: b"", work, lambda n: None, workers=2))
"""


def test_no_worker_outlives_a_killed_parent():
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
    for _ in range(500):
        if not any(_alive(pid) for pid in pids):
            return
        time.sleep(0.02)
    pytest.fail("a worker lives on")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
