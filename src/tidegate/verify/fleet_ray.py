"""An `Executor` on a Ray cluster: an actor a worker. Needs `tidegate[ray]` on every node.

Ray places the actors and hears of nodes that die; what is done, lost and tried again is decided by
the head, as for every executor. More actors than the cluster has processors for wait, and are what
Ray's autoscaler adds nodes for. Shards go through Ray by name only: records, keys and verdicts are
read and written by each worker itself, so nothing of them lies in Ray's object store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tidegate.clock import SystemClock
from tidegate.errors import ConfigError, EngineError, TidegateError
from tidegate.verify.fleet_executor import Event, Failed, Lost, Post
from tidegate.verify.fleet_worker import Worker

# Asked for at import: Ray tells its makers of its use otherwise.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

try:
    import ray
    from ray.exceptions import RayActorError, RayError, RayTaskError
except ImportError as error:
    raise ConfigError(f"--on ray needs tidegate[ray] here and on every node: {error}") from error

_NAMESPACE: Final = "tidegate"
_STILLBORN: Final = 32
"""Actors that may die in a row before they are there, so that no head waits for ever."""

_EVENTS: Final = msgspec.msgpack.Decoder(Event)


class Hand:
    """The actor: one `Worker`, opened with its first shard. Speaks in bytes of our own format."""

    def __init__(self, post: bytes, name: str) -> None:
        self._post = msgspec.json.decode(post, type=Post)
        self._name = name
        self._worker: Worker | None = None

    def begun(self) -> bytes:
        """Nothing: who answers is there."""
        return b""

    def check(self, shard: str) -> bytes:
        """Settle a shard; the `Event` that came of it."""
        try:
            if self._worker is None:
                worker = Worker(self._post, SystemClock(), name=self._name)
                self._worker = worker.__enter__()
            event = self._worker.check(shard)
        except TidegateError as error:
            event = Failed(shard, error.message, fatal=True)
        return msgspec.msgpack.encode(event)


@dataclass(slots=True, eq=False)
class _Held:
    """An actor. `asked` refers to what it was asked last: a shard, or first whether it is there."""

    actor: Any
    asked: Any
    here: bool = False
    shard: str = ""


class RayExecutor:
    """Actors on the cluster at `address`, or on one that starts here and ends with the process.

    Shards go to actors that run; one that waits for a processor holds none up. Raises EngineError
    where the cluster cannot be reached.
    """

    def __init__(self, post: Post, workers: int, address: str | None = None) -> None:
        self._post = msgspec.json.encode(post)
        self._held: list[_Held] = []
        self._hired = self._stillborn = 0
        here = {"include_dashboard": False} if address is None else {}
        try:
            ray.init(
                address=address or "local",
                namespace=_NAMESPACE,
                log_to_driver=False,
                logging_level="ERROR",
                **here,
            )
        except (RayError, ConnectionError, ValueError, RuntimeError) as error:
            raise EngineError(f"the Ray cluster cannot be used: {error}") from error
        self._class = ray.remote(num_cpus=1, max_restarts=0)(Hand)
        self.resize(workers)

    @property
    def workers(self) -> int:
        return self._count

    def resize(self, workers: int) -> None:
        self._count = workers
        while len(self._held) < workers:
            self._held.append(self._hire())
        # Those that wait for a processor go first.
        idle = sorted((held for held in self._held if not held.shard), key=lambda held: held.here)
        for held in idle[: max(0, len(self._held) - workers)]:
            self._dismiss(held)

    def room(self) -> bool:
        return any(held.here and not held.shard for held in self._held)

    def start(self, name: str) -> None:
        held = next(held for held in self._held if held.here and not held.shard)
        held.shard = name
        held.asked = held.actor.check.remote(name)

    def wait(self, timeout: float) -> tuple[Event, ...]:
        asked = {held.asked: held for held in self._held if held.shard or not held.here}
        if not asked:
            return ()
        try:
            heard, _ = ray.wait(list(asked), num_returns=1, timeout=timeout)
        except RayError as error:
            raise EngineError(f"the Ray cluster is gone: {error}") from error
        return tuple(event for answer in heard for event in self._heard(asked[answer]))

    def close(self) -> None:
        ray.shutdown()

    def _heard(self, held: _Held) -> tuple[Event, ...]:
        name = held.shard
        try:
            raw = ray.get(held.asked)
        except RayTaskError as error:
            raise EngineError(f"a worker failed as none should: {error}") from error
        except RayActorError as error:
            if error.actor_init_failed:
                raise EngineError(
                    f"workers cannot begin; is tidegate[ray] on every node? {error}"
                ) from error
            return self._lost(held, error)
        except RayError as error:
            return self._lost(held, error)
        held.here, held.shard, self._stillborn = True, "", 0
        if len(self._held) > self._count:
            self._dismiss(held)
        return (_EVENTS.decode(raw),) if name else ()

    def _lost(self, held: _Held, error: RayError) -> tuple[Event, ...]:
        self._held.remove(held)
        self._stillborn += not held.here
        if self._stillborn > _STILLBORN:
            raise EngineError(f"workers die before they begin; is there memory enough? {error}")
        if len(self._held) < self._count:
            self._held.append(self._hire())
        return (Lost(held.shard, type(error).__name__),) if held.shard else ()

    def _hire(self) -> _Held:
        self._hired += 1
        actor = self._class.remote(self._post, f"ray {os.getpid()}-{self._hired}")
        return _Held(actor, actor.begun.remote())

    def _dismiss(self, held: _Held) -> None:
        self._held.remove(held)
        ray.kill(held.actor, no_restart=True)
