"""Workers and heads killed with SIGKILL while a record is verified: what becomes of verdicts?

A Ray cluster of its own, a head on it, two workers. At random moments a worker's process is killed,
fifty times in all; half-way the head and all of Ray go too, and both are started again. Where a
plan is done before its kills are, verdicts are moved away and it begins again. Then one more head
ends in peace what is left.

An onlooker, who trusts none of it, looks at the verdicts' files all the while: one that is ever
another file than it was, or holds other bytes, was made twice.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from tidegate.bench.figures import Figure, at_most, report
from tidegate.bench.fleet_command import Place, finished
from tidegate.errors import EngineError
from tidegate.models.cache import Progress
from tidegate.verify.fleet_book import Book
from tidegate.verify.fleet_store_files import FileObjects

KILLS: Final = 50
WORKERS: Final = 2

_LONGEST: Final = 2.0
"""Seconds from one kill, or from when somebody works again, to the next, at most."""

_PATIENCE: Final = 120.0
"""Seconds for a cluster or a worker to come up."""

_ACTOR: Final = b"ray::Hand"


@dataclass(slots=True)
class Onlooker:
    """Files of verdicts as they were first seen."""

    folder: Path
    seen: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    twice: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Compare all that is there with what was."""
        for path in self.folder.glob("*"):
            if path.name.startswith("."):
                continue
            with suppress(FileNotFoundError):
                now = (path.stat().st_ino, hashlib.sha256(path.read_bytes()).digest())
                if self.seen.setdefault(path.name, now) != now:
                    self.twice.add(path.name)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look every now and then while the context is open."""
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(0.05):
                self.look()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.look()


@dataclass(slots=True)
class _Cluster:
    """Ray's own processes and the head's, until they are killed."""

    place: Place
    ray: subprocess.Popen[bytes]
    head: subprocess.Popen[bytes]

    def workers(self) -> list[int]:
        """Processes of actors."""
        return [pid for pid in descendants(self.ray.pid) if named(pid).startswith(_ACTOR)]

    def kill(self) -> None:
        """All of it at once, as when the head's machine goes."""
        for pid in (self.head.pid, *descendants(self.ray.pid), self.ray.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.head.wait()
        self.ray.wait()


def measure(place: Place, progress: Progress) -> dict[str, Figure]:
    """Kill, start again, count. Raises EngineError where something does not come up."""
    shards = len(Book(FileObjects(place.fleet), place.key.read_bytes()).plan().tickets)
    killed = heads = lost = twice = rounds = 0
    while killed < KILLS or not heads:
        done = _round(place, killed, progress)
        killed, heads, rounds = done.killed, heads + done.heads, rounds + 1
        lost, twice = lost + done.lost, twice + done.twice
    progress("workers killed", KILLS, KILLS)
    how = (
        f"{rounds} rounds over {shards} shards of SmolLM2's answers on the exact engine; {killed} "
        f"workers killed by SIGKILL at random moments, {heads} times the head and all of Ray"
    )
    total = rounds * shards
    return {
        "lost_verdicts": at_most(lost, 0, unit="", n=total, how=f"shards without one; {how}"),
        "duplicate_verdicts": at_most(
            twice,
            0,
            unit="",
            n=total,
            how="verdicts whose file was ever another, and answers that are in two; the report "
            f"over all of them passes each round; {how}",
        ),
        "killed_workers": report(killed, unit="", n=killed, how=how),
        "killed_heads": report(heads, unit="", n=heads, how=how),
    }


@dataclass(frozen=True, slots=True)
class _Done:
    killed: int
    heads: int
    lost: int
    twice: int


def _round(place: Place, killed: int, progress: Progress) -> _Done:
    shutil.rmtree(place.fleet / "verdicts", ignore_errors=True)
    onlooker, heads = Onlooker(place.fleet / "verdicts"), 0
    with onlooker.looking(), ExitStack() as stack:
        cluster = _started(place)
        stack.callback(lambda: cluster.kill())
        while killed < KILLS:
            worker = _next_worker(cluster)
            if worker is None:
                break
            time.sleep(_LONGEST * secrets.randbelow(1_000) / 1_000)
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                killed += 1
            progress("workers killed", killed, KILLS)
            if killed == KILLS // 2 and not heads:
                cluster.kill()
                heads += 1
                cluster = _started(place)
        cluster.kill()
        # Undisturbed, and by another executor: what is left, and what was set aside.
        finished(place.command("run", "--workers", str(WORKERS), "--json"))
    book = Book(FileObjects(place.fleet), place.key.read_bytes())
    plan = book.plan()
    names = {ticket.name for ticket in plan.tickets}
    said = finished(place.command("report", "--key", str(place.served.key), "--json"))
    outcome = msgspec.json.decode(said, type=dict[str, object])
    if outcome["replayed"] != place.served.answers:
        raise EngineError("the report does not count every answer once")
    counted = Counter(
        one.response
        for name in names
        if (verdict := book.verdict(name, plan.subject)) is not None
        for one in verdict.checked
    )
    again = sum(count - 1 for count in counted.values())
    return _Done(killed, heads, len(names - book.settled()), len(onlooker.twice) + again)


def _next_worker(cluster: _Cluster) -> int | None:
    """A worker to kill; None where the head has ended by itself."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if cluster.head.poll() is not None:
            return None
        workers = cluster.workers()
        if workers:
            return secrets.choice(workers)
        time.sleep(0.05)
    raise EngineError("no worker came up")


def _started(place: Place) -> _Cluster:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    ray = _quiet(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--node-ip-address", "127.0.0.1", "--port", str(port), "--num-cpus", str(WORKERS)),
            *("--include-dashboard", "false", "--disable-usage-stats"),
            *("--object-store-memory", str(100 << 20)),
        ]
    )
    _reached(port, ray)
    where = ("--on", "ray", "--address", f"127.0.0.1:{port}")
    head = _quiet(place.command("run", *where, "--workers", str(WORKERS), "--json"))
    return _Cluster(place, ray, head)


def _quiet(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _reached(port: int, ray: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and ray.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise EngineError("Ray did not come up; is tidegate[ray] installed here?")


def descendants(root: int) -> list[int]:
    """Processes that a process started, and theirs."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            told = path.read_text()
            parent = int(told[told.rindex(")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [root]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


def named(pid: int) -> bytes:
    """A process's command line; empty where it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
