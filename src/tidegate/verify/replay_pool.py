"""Processes of this machine that re-execute answers, each holding the model once.

Results come out in the order in which tasks went in, so that whoever writes them down can go on
where he was killed. A worker that dies takes nothing along but time: its answer is given to a new
one, and only if that dies over it too is the answer given up, as a finding. Answers held at once
are bounded by `WINDOW` a worker.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Final

import msgspec

from tidegate.errors import EngineError, ModelError
from tidegate.verify.replay_answer import Checked, Rule, Task
from tidegate.verify.replay_findings import ReplayKind, found
from tidegate.verify.replay_model import Spec
from tidegate.verify.replay_worker import Done, Message, Ready, Refused

WINDOW: Final = 4
"""Answers a worker has in hand or waiting, results not yet taken included."""

_TRIES: Final = 2
_PROGRAM: Final = "tidegate.verify.replay_worker"
_DECODER = msgspec.msgpack.Decoder(Message)


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    ready: bool = False
    job: _Job | None = None


@dataclass(slots=True, eq=False)
class _Job:
    task: Task
    deaths: int = 0
    checked: Checked | None = None


@dataclass(slots=True, eq=False)
class _State:
    queued: deque[_Job] = field(default_factory=deque)
    ordered: deque[_Job] = field(default_factory=deque)


class Pool:
    """Use as a context manager; `model` says what the workers run.

    Raises ModelError where the model cannot be opened, EngineError where workers die before it is.
    """

    def __init__(self, spec: Spec, *, workers: int = 1) -> None:
        self._spec = msgspec.msgpack.encode(spec)
        self._count = workers
        self._workers: list[_Worker] = []
        self._state = _State()
        self._rule: Rule | None = None
        self._model: Ready | None = None
        self._stillborn = 0

    def __enter__(self) -> Pool:
        try:
            self._workers.append(self._hired())
            while self._model is None:
                self._turn(None)
        except BaseException:
            self._dismiss()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._dismiss()

    @property
    def model(self) -> Ready:
        """What the workers run."""
        if self._model is None:
            raise EngineError("the workers have not been started")
        return self._model

    @property
    def processes(self) -> tuple[int, ...]:
        """The workers' process ids, for whoever watches them."""
        return tuple(worker.process.pid for worker in self._workers)

    def begin(self, rule: Rule) -> None:
        """How answers are judged, before the first `put`."""
        self._rule = rule
        for worker in self._workers:
            self._instruct(worker)
        # The others are hired only now: the first one made sure that the model opens at all.
        while len(self._workers) < self._count:
            self._workers.append(self._hired())

    def room(self) -> bool:
        """Whether another answer may be put."""
        return len(self._state.ordered) < WINDOW * self._count

    def pending(self) -> int:
        """Answers that were put and not taken."""
        return len(self._state.ordered)

    def put(self, task: Task) -> None:
        """Hand in an answer."""
        job = _Job(task)
        self._state.queued.append(job)
        self._state.ordered.append(job)
        self._assign()

    def take(self, timeout: float | None = None) -> Checked | None:
        """The next result in order; None where `timeout` seconds did not bring it."""
        ordered = self._state.ordered
        if not ordered:
            return None
        while ordered[0].checked is None:
            if not self._turn(timeout):
                return None
        return ordered.popleft().checked

    def stop_busy(self) -> None:
        """End whoever has an answer in hand, as if it had died over it: for one that hangs."""
        for worker in self._workers:
            if worker.job is not None:
                worker.process.kill()

    def _turn(self, timeout: float | None) -> bool:
        """Wait for messages and deaths; whether there were any."""
        pipes = {worker.pipe: worker for worker in self._workers}
        heard = wait(list(pipes), timeout)
        for pipe in heard:
            worker = pipes[pipe]  # type: ignore[index]
            try:
                message = _DECODER.decode(worker.pipe.recv_bytes())
            except (EOFError, ConnectionResetError):
                self._bury(worker)
                continue
            self._hear(worker, message)
        self._assign()
        return bool(heard)

    def _hear(self, worker: _Worker, message: Message) -> None:
        if isinstance(message, Refused):
            raise ModelError(message.message)
        if isinstance(message, Ready):
            if self._model is not None and message != self._model:
                raise ModelError("the model changed on disk while it was being verified with")
            self._model, worker.ready, self._stillborn = message, True, 0
            self._instruct(worker)
        elif isinstance(message, Done) and worker.job is not None:
            worker.job.checked, worker.job = message.checked, None

    def _bury(self, worker: _Worker) -> None:
        """A worker died: hire another, and give its answer out again or up."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.wait()
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn > _TRIES:
                raise EngineError(
                    "the workers die while they open the model; is there memory enough for "
                    f"{self._count} of them? (exit status {worker.process.returncode})"
                )
        job = worker.job
        if job is not None:
            job.deaths += 1
            if job.deaths < _TRIES:
                self._state.queued.appendleft(job)
            else:
                job.checked = _lost(job.task)
        self._workers.append(self._hired())

    def _assign(self) -> None:
        for worker in self._workers:
            if worker.ready and self._rule is not None and worker.job is None:
                if not self._state.queued:
                    return
                worker.job = self._state.queued.popleft()
                self._send(worker, msgspec.msgpack.encode(worker.job.task))

    def _instruct(self, worker: _Worker) -> None:
        if worker.ready and self._rule is not None:
            self._send(worker, msgspec.msgpack.encode(self._rule))

    @staticmethod
    def _send(worker: _Worker, raw: bytes) -> None:
        try:
            worker.pipe.send_bytes(raw)
        except (BrokenPipeError, ConnectionResetError):
            return  # its death is heard in the next turn, and its answer given out again

    def _hired(self) -> _Worker:
        ours, theirs = Pipe()
        # A program of its own and no fork of this one: whatever this process has open or loaded
        # stays here. A session of its own: Ctrl-C is for the parent, who decides what it means.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", _PROGRAM, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()  # else the worker's death could not be heard
        worker = _Worker(process, ours)
        self._send(worker, self._spec)
        return worker

    def _dismiss(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.wait()
        self._workers.clear()


def _lost(task: Task) -> Checked:
    reason = "The replay of this answer died, on two workers one after the other."
    finding = found(ReplayKind.WORKER_LOST, reason, task.response)
    return Checked(response=task.response, digest=task.digest.hex(), findings=(finding,))
