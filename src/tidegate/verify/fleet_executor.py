"""Where shards are re-executed: the port, and what comes back through it.

The same worker (`fleet_worker`) runs behind each adapter: `fleet_local` has its processes on this
machine, `fleet_ray` on a Ray cluster; a Kubernetes Job needs no head, so there the worker goes
through the plan by itself. Nothing is lost with a head or a worker: verdicts are in the book before
anybody is told.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Post(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker is told: places and paths, the same on every machine; no secret itself.

    `record` and `fleet` are folders or URLs, the keys files. `threads` None: the model's own rule.
    An answer that takes longer than `patience` seconds counts as one that kills its process.
    """

    record: str
    fleet: str
    fleet_key: str
    verifier_key: str | None = None
    seed_key: str | None = None
    threads: int | None = None
    patience: float = 900.0


class Done(msgspec.Struct, frozen=True, tag="done"):
    """A shard has its verdict; `fresh` if it was made now. `tokens` took `seconds`."""

    name: str
    tokens: int
    seconds: float
    fresh: bool


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A worker says why it gave a shard up. `fatal`: another shard would fare no better."""

    name: str
    reason: str
    fatal: bool


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """A worker is gone, with whatever it had not settled of this shard."""

    name: str
    reason: str


Event = Done | Failed | Lost


class Executor(Protocol):
    """Workers, each with one shard in hand at most. Raises EngineError where it cannot go on."""

    @property
    def workers(self) -> int:
        """How many there are or will be."""
        ...

    def resize(self, workers: int) -> None:
        """Have so many from now on; nobody is interrupted."""
        ...

    def room(self) -> bool:
        """Whether another shard may be started now."""
        ...

    def start(self, name: str) -> None:
        """Hand a shard to an idle worker."""
        ...

    def wait(self, timeout: float) -> tuple[Event, ...]:
        """What happened; empty where `timeout` seconds brought nothing."""
        ...

    def close(self) -> None:
        """Let all workers go, at once."""
        ...
