"""Drives a plan to its end: hands out shards, hears what becomes of them, hires and lets go.

The head keeps nothing that matters. What it is told speeds it up; that a shard is settled it
believes only the book, so another head may go on where this one was killed, or beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tidegate.errors import EngineError
from tidegate.verify.fleet_book import Book
from tidegate.verify.fleet_executor import Done, Event, Executor, Failed, Lost
from tidegate.verify.fleet_plan import Plan
from tidegate.verify.fleet_queue import Queue
from tidegate.verify.fleet_scale import Crew, wanted

_TURN: Final = 1.0
"""Seconds to wait for news at most before the crew's size is looked at again."""

_RECENT: Final = 64
"""Shards that a worker's speed is reckoned from."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What a run came to: shards settled by now, by this run, and those set aside; workers lost."""

    settled: int
    fresh: int
    aside: dict[str, str]
    lost: int


class Head:
    """One run over a plan. `step` is told, after each piece of news, how many shards are settled.

    Raises EngineError where workers cannot go on, StoreError where the store cannot.
    """

    def __init__(
        self,
        book: Book,
        plan: Plan,
        executor: Executor,
        crew: Crew,
        step: Callable[[int, int], None] = lambda _settled, _planned: None,
    ) -> None:
        self._book = book
        self._tokens = {ticket.name: ticket.tokens for ticket in plan.tickets}
        self._executor = executor
        self._crew = crew
        self._step = step
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._fresh = self._lost = 0

    def run(self) -> Drained:
        """Until every shard is settled or set aside."""
        aside_before = self._book.aside()
        queue = Queue.of(self._tokens, self._book.settled())
        while queue.busy:
            self._turns(queue, aside_before)
            listed = self._book.settled()
            # Settled is what is listed. A verdict that was moved away meanwhile is made again.
            gone = [name for name in self._tokens if name in queue.settled and name not in listed]
            queue.settled.difference_update(gone)
            queue.waiting.extend(gone)
        settled = len(queue.settled & self._tokens.keys())
        return Drained(settled, self._fresh, dict(queue.aside), self._lost)

    def _turns(self, queue: Queue, aside_before: dict[str, str]) -> None:
        while queue.busy:
            self._hire(queue)
            while self._executor.room() and (name := queue.next()) is not None:
                self._executor.start(name)
            for event in self._executor.wait(_TURN):
                self._hear(event, queue)
                if event.name in queue.aside:
                    self._book.set_aside(event.name, queue.aside[event.name])
                elif event.name in aside_before and event.name in queue.settled:
                    self._book.take_up(event.name)
            self._step(len(queue.settled & self._tokens.keys()), len(self._tokens))

    def _hear(self, event: Event, queue: Queue) -> None:
        match event:
            case Done(name=name, tokens=tokens, seconds=seconds, fresh=fresh):
                if fresh:
                    self._fresh += 1
                    self._recent.append((tokens, seconds))
                queue.done(name)
            case Lost(name=name, reason=reason):
                self._lost += 1
                queue.lost(name, reason)
            case Failed(fatal=True, reason=reason):
                raise EngineError(f"{reason}; mend it and run again, which goes on from here")
            case Failed(name=name, reason=reason):
                queue.failed(name, reason)

    def _hire(self, queue: Queue) -> None:
        left = [*queue.waiting, *queue.running]
        seconds = sum(took for _, took in self._recent)
        rate = sum(tokens for tokens, _ in self._recent) / seconds if seconds else None
        backlog = sum(self._tokens[name] for name in left)
        workers = wanted(backlog, len(left), rate, self._crew)
        if workers != self._executor.workers:
            self._executor.resize(workers)
