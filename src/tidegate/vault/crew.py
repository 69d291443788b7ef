"""Processes that share out a folder's shards.

Processes, since the `cryptography` package holds the interpreter's lock while it encrypts: a second
thread adds nothing. Forked, since what they are given to do may take less time than an interpreter
needs to start; they only encrypt, hash, read and write, and never return to their caller's code.
Keys are asked for in the parent, one at a time, and no worker outlives it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Final, NoReturn, TypeAlias

import msgspec

from tidegate.vault.errors import TamperedError, VaultError

Tell: TypeAlias = Callable[[int], None]
"""Told how many more bytes are done."""

Work: TypeAlias = Callable[[int, bytes, Tell], bytes]
"""What is done with a shard, given its number and its data key; what comes of it."""

_PR_SET_PDEATHSIG: Final = 1
_TOLD_S: Final = 0.1
_COUNTER: Final = 8
_ERRORS: Final = {error.code: error for error in (VaultError, TamperedError)}


class _Job(msgspec.Struct, frozen=True):
    number: int
    key: bytes


class _Done(msgspec.Struct, frozen=True, tag="done"):
    number: int
    result: bytes


class _Refused(msgspec.Struct, frozen=True, tag="refused"):
    code: str
    message: str
    details: dict[str, str | int | float | bool | None]


class _DiskFailed(msgspec.Struct, frozen=True, tag="disk"):
    number: int | None
    message: str
    file: str | None


_Reply: TypeAlias = _Done | _Refused | _DiskFailed
_JOB: Final = msgspec.msgpack.Decoder(_Job)
_REPLY: Final[msgspec.msgpack.Decoder[_Reply]] = msgspec.msgpack.Decoder(_Reply)


def share_out(
    numbers: Sequence[int],
    key_of: Callable[[int], bytes],
    work: Work,
    tell: Tell,
    *,
    workers: int | None = None,
    begin: Callable[[], None] | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Do `work` for each shard, in this order as workers come free; yields what came of each.

    `workers` defaults to one a processor; with one, all is done in this process. `begin` is called
    in every process that is made. Raises what `work` and `key_of` raise, where that is a
    VaultError or an OSError; VaultError where a worker dies.
    """
    count = min(workers or len(os.sched_getaffinity(0)), len(numbers))
    if count <= 1:
        for number in numbers:
            yield number, work(number, key_of(number), tell)
        return
    with mmap.mmap(-1, _COUNTER * count) as room, memoryview(room).cast("Q") as counters:
        crew: list[_Worker] = []
        try:
            crew.extend(_hired(work, counters, place, begin) for place in range(count))
            yield from _lead(crew, numbers, key_of, counters, tell)
        finally:
            for worker in crew:
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
                worker.pipe.close()


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    pipe: Connection


def _lead(
    crew: Sequence[_Worker],
    numbers: Sequence[int],
    key_of: Callable[[int], bytes],
    counters: memoryview,
    tell: Tell,
) -> Iterator[tuple[int, bytes]]:
    waiting = list(reversed(numbers))
    busy: set[Connection] = set()
    told = 0
    for worker in crew:
        _give(worker.pipe, waiting, key_of, busy)
    while busy:
        heard = wait(list(busy), _TOLD_S)
        done = sum(counters)
        tell(done - told)
        told = done
        for pipe in [one for one in busy if one in heard]:
            found = _hear(pipe)
            busy.discard(pipe)
            _give(pipe, waiting, key_of, busy)
            yield found.number, found.result
    tell(sum(counters) - told)


def _give(
    pipe: Connection, waiting: list[int], key_of: Callable[[int], bytes], busy: set[Connection]
) -> None:
    if not waiting:
        return
    number = waiting.pop()
    job = _Job(number, key_of(number))
    busy.add(pipe)
    try:
        pipe.send_bytes(msgspec.msgpack.encode(job))
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _lost() from error


def _hear(pipe: Connection) -> _Done:
    try:
        reply = _REPLY.decode(pipe.recv_bytes())
    except (EOFError, ConnectionResetError) as error:
        raise _lost() from error
    if isinstance(reply, _Refused):
        raise _ERRORS.get(reply.code, VaultError)(reply.message, **reply.details)
    if isinstance(reply, _DiskFailed):
        raise OSError(reply.number, reply.message, reply.file)
    return reply


def _lost() -> VaultError:
    return VaultError("a worker process was killed; is there memory enough? Run the command again")


def _hired(
    work: Work, counters: memoryview, place: int, begin: Callable[[], None] | None
) -> _Worker:
    ours, theirs = Pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()  # else its death could not be heard
        return _Worker(pid, ours)
    try:
        _leave_with(parent)
        if begin is not None:
            begin()
        _serve(theirs, work, counters, place)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        os._exit(1)  # whatever happens: the caller's code goes on in the parent alone


def _leave_with(parent: int) -> None:
    """Die when the parent does, however; and let him alone decide what Ctrl-C means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) or os.getppid() != parent:
        os._exit(1)


def _serve(pipe: Connection, work: Work, counters: memoryview, place: int) -> NoReturn:
    def tell(size: int) -> None:
        counters[place] += size

    while True:
        job = _JOB.decode(pipe.recv_bytes())
        reply: _Reply
        try:
            reply = _Done(job.number, work(job.number, job.key, tell))
        except VaultError as error:
            reply = _Refused(error.code, error.message, error.details)
        except OSError as error:
            reply = _DiskFailed(error.errno, error.strerror or str(error), error.filename)
        pipe.send_bytes(msgspec.msgpack.encode(reply))
