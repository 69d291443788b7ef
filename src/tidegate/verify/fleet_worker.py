"""Takes one shard after the other: reads its answers, re-executes them, settles the verdict.

The model is in a process of its own (`replay_pool`), so that an answer which kills it is found,
tried once more and named, while the worker lives. A worker may be killed at any moment: until the
verdict is in the book nothing has happened, afterwards it is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tidegate.clock import Clock
from tidegate.errors import ConfigError, EngineError, ModelError, RecordError
from tidegate.sampling.seed import SeedService
from tidegate.verify.fleet_answers import tasks_of
from tidegate.verify.fleet_book import Book, Verdict
from tidegate.verify.fleet_executor import Done, Event, Failed, Post
from tidegate.verify.fleet_plan import Plan, Shard
from tidegate.verify.fleet_store import StoreError
from tidegate.verify.fleet_store_open import open_objects
from tidegate.verify.record_seal import Opener
from tidegate.verify.record_store import Source
from tidegate.verify.record_store_files import FileSource
from tidegate.verify.record_store_objects import ObjectSource
from tidegate.verify.replay_answer import Checked, Task
from tidegate.verify.replay_model import Spec, folder_of
from tidegate.verify.replay_pool import Pool

_KEY_BYTES = 32


def secret_of(path: str) -> bytes:
    """The 32 secret bytes in a file. Raises ConfigError for a file that is not there or short."""
    try:
        value = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the key {path}: {error.strerror}") from error
    if len(value) < _KEY_BYTES:
        raise ConfigError(f"the key in {path} has {len(value)} bytes; it needs {_KEY_BYTES}")
    return value[:_KEY_BYTES]


def source_of(place: str) -> Source:
    """The record at a folder that its writer keeps, or in a store that it was shipped to.

    Raises ConfigError where there is none, RecordError where it cannot be read.
    """
    folder = Path(place).expanduser()
    if "://" not in place and any(folder.glob("*.log")):
        return FileSource(folder)
    source = ObjectSource(open_objects(place))
    if not source.segments():
        raise ConfigError(f"there is no record at {place}; `tidegate fleet ship` puts one there")
    return source


def book_of(post: Post) -> Book:
    """The fleet's state as a worker or head reaches it. Raises ConfigError."""
    return Book(open_objects(post.fleet), secret_of(post.fleet_key))


class Worker:
    """Use as a context manager. Raises ConfigError, ModelError, EngineError or StoreError.

    Args:
        post: where everything is.
        name: of this worker, for people.
        processes: each with the model once.
        book: the fleet's state, where it is open already.
    """

    def __init__(
        self, post: Post, clock: Clock, *, name: str, processes: int = 1, book: Book | None = None
    ) -> None:
        self._post = post
        self._clock = clock
        self._name = name
        self._processes = processes
        self._book = book or book_of(post)
        self._open = ExitStack()

    def __enter__(self) -> Worker:
        post = self._post
        self._plan = self._book.plan()
        self._source: Source | None = None
        self._opener = (
            None
            if post.verifier_key is None
            else Opener(X25519PrivateKey.from_private_bytes(secret_of(post.verifier_key)))
        )
        self._seeds = None if post.seed_key is None else SeedService(secret_of(post.seed_key))
        spec = self._spec(self._plan)
        folder_of(spec)  # fetched here once, not by every process
        self._pool = self._open.enter_context(Pool(spec, workers=self._processes))
        self._same_model(self._plan)
        self._pool.begin(self._plan.subject.rule)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of those that hold the model."""
        return self._pool.processes

    def check(self, name: str, step: Callable[[int], None] = lambda _answers: None) -> Event:
        """Settle a shard, whatever anybody else does with it; `step` hears of each answer."""
        try:
            shard = self._book.shard(name)
            if shard.name(self._plan.subject) != name:
                told = "it was planned anew, by other terms, since this worker began"
                return Failed(name, told, fatal=True)
            if self._book.verdict(name, self._plan.subject) is not None:
                return Done(name, shard.tokens, 0.0, fresh=False)
            begun = self._clock.monotonic()
            checked = tuple(self._checked(self._tasks(shard), step))
            seconds = self._clock.monotonic() - begun
            verdict = Verdict(shard=name, checked=checked, worker=self._name, seconds=seconds)
            fresh = self._book.settle(verdict)
        except StoreError as error:
            return Failed(name, error.message, fatal=error.again)
        except RecordError as error:
            return Failed(name, _told(error), fatal=False)
        except (ModelError, EngineError) as error:
            return Failed(name, error.message, fatal=True)
        return Done(name, shard.tokens, seconds, fresh)

    def _tasks(self, shard: Shard) -> tuple[Task, ...]:
        if self._source is None:
            self._source = source_of(self._post.record)
        try:
            return tasks_of(
                self._source,
                shard,
                vocab_size=self._plan.vocab_size,
                opener=self._opener,
                seeds=self._seeds,
            )
        except RecordError:
            self._source = None  # looked at anew next time: it may have been mended
            raise

    def _checked(self, tasks: tuple[Task, ...], step: Callable[[int], None]) -> list[Checked]:
        left, results = deque(tasks), list[Checked]()
        while len(results) < len(tasks):
            while left and self._pool.room():
                self._pool.put(left.popleft())
            checked = self._pool.take(self._post.patience)
            if checked is None:
                self._pool.stop_busy()
                continue
            results.append(checked)
            step(len(results))
        return results

    def _spec(self, plan: Plan) -> Spec:
        spec, threads = plan.spec, self._post.threads
        if threads is None:
            return spec
        return Spec(spec.engine, spec.name, spec.dtype, spec.tokenizer, threads, spec.max_context)

    def _same_model(self, plan: Plan) -> None:
        ready, subject = self._pool.model, plan.subject
        if (ready.model, ready.tokenizer) != (subject.model, subject.tokenizer):
            raise ModelError(
                f"the model {plan.spec.name} is not the one the plan was made with; give this "
                "worker the same files, or plan again"
            )


def _told(error: RecordError) -> str:
    where = ", ".join(f"{name} {value}" for name, value in sorted(error.details.items()))
    return f"{error.message} ({where})" if where else error.message
