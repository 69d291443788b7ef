"""An `Executor` of this machine: a thread a worker, each with its own process for the model."""

from __future__ import annotations

import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import Final

from tidegate.clock import Clock
from tidegate.errors import TidegateError
from tidegate.verify.fleet_executor import Event, Failed, Post
from tidegate.verify.fleet_worker import Worker

_PARTING: Final = 5.0
"""Seconds that an idle worker has to end its process."""


class _Hand:
    """A thread that settles what lies in its box; None ends it."""

    def __init__(self, post: Post, clock: Clock, name: str, news: SimpleQueue[Event]) -> None:
        self.busy = False
        self.box: SimpleQueue[str | None] = SimpleQueue()
        # A daemon, so that Ctrl-C need not wait for a shard; its process ends with its pipe.
        self.thread = threading.Thread(
            target=self._work, args=(post, clock, name, news), name=name, daemon=True
        )
        self.thread.start()

    def _work(self, post: Post, clock: Clock, name: str, news: SimpleQueue[Event]) -> None:
        shard = self.box.get()
        if shard is None:
            return
        try:
            with Worker(post, clock, name=name) as worker:
                while shard is not None:
                    news.put(worker.check(shard))
                    shard = self.box.get()
        except TidegateError as error:
            if shard is not None:
                news.put(Failed(shard, error.message, fatal=True))


class LocalExecutor:
    """Workers on this machine; each opens the model when it gets its first shard."""

    def __init__(self, post: Post, clock: Clock, workers: int) -> None:
        self._post = post
        self._clock = clock
        self._news: SimpleQueue[Event] = SimpleQueue()
        self._hands: list[_Hand] = []
        self._hired = 0
        self._holders: dict[str, _Hand] = {}
        self.resize(workers)

    @property
    def workers(self) -> int:
        return self._count

    def resize(self, workers: int) -> None:
        self._count = workers
        while len(self._hands) < workers:
            self._hired += 1
            self._hands.append(_Hand(self._post, self._clock, f"worker {self._hired}", self._news))
        idle = deque(hand for hand in self._hands if not hand.busy)
        while len(self._hands) > workers and idle:
            self._dismiss(idle.popleft())

    def room(self) -> bool:
        return any(not hand.busy for hand in self._hands)

    def start(self, name: str) -> None:
        hand = next(hand for hand in self._hands if not hand.busy)
        hand.busy = True
        self._holders[name] = hand
        hand.box.put(name)

    def wait(self, timeout: float) -> tuple[Event, ...]:
        try:
            event = self._news.get(timeout=timeout)
        except Empty:
            return ()
        hand = self._holders.pop(event.name)
        hand.busy = False
        if len(self._hands) > self._count:
            self._dismiss(hand)
        return (event,)

    def close(self) -> None:
        for hand in tuple(self._hands):
            self._dismiss(hand)

    def _dismiss(self, hand: _Hand) -> None:
        self._hands.remove(hand)
        hand.box.put(None)
        if not hand.busy:
            hand.thread.join(_PARTING)
