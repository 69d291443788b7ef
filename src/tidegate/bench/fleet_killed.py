"""Workers and heads killed with SIGKILL while a record is verified: what becomes of verdicts?

A Ray cluster of two nodes, a head on it, a worker on each. At random moments a worker's process is
killed, fifty times in all. Twice on the way a whole node goes, as a spot machine does, and half-way
the head with all of Ray; each is started again. Where a plan is done before its kills are, its
verdicts are removed and it begins again. Then one more head ends in peace what is left.

An onlooker, who trusts none of it, looks at the verdicts' files all the while: one that is ever
another file than it was, or holds other bytes, was made twice; one that he saw and that is gone was
lost.
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
    """Ray's two nodes and the fleet's head, until they are killed."""

    port: int
    first: subprocess.Popen[bytes]
    second: subprocess.Popen[bytes]
    head: subprocess.Popen[bytes]

    def workers(self) -> list[int]:
        """Processes of actors."""
        below = (*descendants(self.first.pid), *descendants(self.second.pid))
        return [pid for pid in below if named(pid).startswith(_ACTOR)]

    def lose_node(self) -> None:
        """The node without the head goes, and another comes."""
        _kill(self.second)
        self.second = _node("--address", f"127.0.0.1:{self.port}")

    def kill(self) -> None:
        """All of it, as when the head's machine goes."""
        for process in (self.head, self.first, self.second):
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    for pid in (*descendants(process.pid), process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def measure(place: Place, progress: Progress) -> dict[str, Figure]:
    """Kill, start again, count. Raises EngineError where something does not come up."""
    shards = len(Book(FileObjects(place.fleet), place.key.read_bytes()).plan().tickets)
    done = _Done()
    while done.killed < KILLS:
        before = done.killed
        _round(place, done, progress)
        if done.killed == before:
            raise EngineError("the head ended before any of its workers could be killed")
    progress("workers killed", KILLS, KILLS)
    total = done.rounds * shards
    how = (
        f"{done.rounds} rounds over {shards} shards of SmolLM2's answers on the exact engine; "
        f"SIGKILL at random moments to {done.killed} workers, {done.nodes} times to a whole Ray "
        f"node, {done.heads} times to the head and all of Ray"
    )
    return {
        "lost_verdicts": at_most(
            done.lost, 0, unit="", n=total, how=f"shards without one, and any that was gone; {how}"
        ),
        "duplicate_verdicts": at_most(
            done.twice,
            0,
            unit="",
            n=total,
            how="verdicts whose file was ever another, and answers that are in two; the report "
            f"over all of them passes each round; {how}",
        ),
        "killed_workers": report(done.killed, unit="", n=done.killed, how=how),
        "killed_nodes": report(done.nodes, unit="", n=done.nodes, how=how),
        "killed_heads": report(done.heads, unit="", n=done.heads, how=how),
    }


@dataclass(slots=True)
class _Done:
    killed: int = 0
    nodes: int = 0
    heads: int = 0
    lost: int = 0
    twice: int = 0
    rounds: int = 0


def _round(place: Place, done: _Done, progress: Progress) -> None:
    shutil.rmtree(place.fleet / "verdicts", ignore_errors=True)
    onlooker = Onlooker(place.fleet / "verdicts")
    done.rounds += 1
    with onlooker.looking(), ExitStack() as stack:
        cluster = _started(place)
        stack.callback(lambda: cluster.kill())
        while done.killed < KILLS and (worker := _next_worker(cluster)) is not None:
            time.sleep(_LONGEST * secrets.randbelow(1_000) / 1_000)
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                done.killed += 1
            progress("workers killed", done.killed, KILLS)
            if done.nodes < 2 and done.killed >= (2 * done.nodes + 1) * KILLS // 4:
                cluster.lose_node()
                done.nodes += 1
            if done.heads < 1 and done.killed >= KILLS // 2:
                cluster.kill()
                done.heads += 1
                cluster = _started(place)
        cluster.kill()
        # Undisturbed, and by another executor: what is left, and what was set aside.
        finished(place.command("run", "--workers", str(WORKERS), "--json"))
    _count(place, onlooker, done)


def _count(place: Place, onlooker: Onlooker, done: _Done) -> None:
    """What a round came to. Raises EngineError where the report over it does not pass."""
    book = Book(FileObjects(place.fleet), place.key.read_bytes())
    plan = book.plan()
    said = finished(place.command("report", "--key", str(place.served.key), "--json"))
    outcome = msgspec.json.decode(said, type=dict[str, object])
    if outcome["replayed"] != place.served.answers:
        raise EngineError("the report does not count every answer once")
    verdicts = {ticket.name: book.verdict(ticket.name, plan.subject) for ticket in plan.tickets}
    answers = Counter(one.response for v in verdicts.values() if v for one in v.checked)
    done.lost += sum(verdict is None for verdict in verdicts.values())
    done.lost += len(onlooker.seen.keys() - book.settled())
    done.twice += len(onlooker.twice) + sum(count - 1 for count in answers.values())


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
    first = _node("--head", "--port", str(port), "--include-dashboard", "false")
    _reached(port, first)
    second = _node("--address", f"127.0.0.1:{port}")
    where = ("--on", "ray", "--address", f"127.0.0.1:{port}")
    head = _quiet(place.command("run", *where, "--workers", str(WORKERS), "--json"))
    return _Cluster(port, first, second, head)


def _node(*more: str) -> subprocess.Popen[bytes]:
    """A Ray node of one processor, and all that runs on it, below one process."""
    return _quiet(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *more),
            *("--node-ip-address", "127.0.0.1", "--num-cpus", "1", "--disable-usage-stats"),
            *("--object-store-memory", str(100 << 20)),
        ]
    )


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
