"""A worker that is its own head: one of so many equal pods goes through its own part of the plan.

Kubernetes says by number which pod this is, starts it again where it dies, and stops when all have
ended; a spot machine that goes takes nothing along but the shard in hand.
"""

from __future__ import annotations

from contextlib import ExitStack

import msgspec

from tidegate.errors import ConfigError
from tidegate.verify.fleet_executor import Event
from tidegate.verify.fleet_plan import Plan
from tidegate.verify.fleet_worker import Worker


def part_of(plan: Plan, pod: int, pods: int) -> Plan:
    """The part of pod number `pod` of `pods`, from 0. Raises ConfigError where there is none."""
    if not 0 <= pod < pods:
        raise ConfigError(f"there is no pod {pod} of {pods}; they are numbered from 0")
    return msgspec.structs.replace(plan, tickets=plan.tickets[pod::pods])


class Alone:
    """An `Executor` of one worker in this very thread; it opens the model with its first shard."""

    workers = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._open = ExitStack()
        self._opened = False
        self._held: str | None = None

    def resize(self, workers: int) -> None:
        return

    def room(self) -> bool:
        return self._held is None

    def start(self, name: str) -> None:
        self._held = name

    def wait(self, timeout: float) -> tuple[Event, ...]:
        if self._held is None:
            return ()
        if not self._opened:
            self._open.enter_context(self._worker)
            self._opened = True
        name, self._held = self._held, None
        return (self._worker.check(name),)

    def close(self) -> None:
        self._open.close()
