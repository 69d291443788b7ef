"""Which shard is next, and what becomes of one that fails or whose worker is lost. Pure.

Every shard ends settled or set aside. Losses are the machines' doing far more often than the
shard's, so it takes many before one is set aside; a worker that says why it failed is believed
sooner. What is set aside gets no verdict, so nothing passes by it, and a later run tries again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

LOSSES: Final = 8
"""Workers that a shard may lose before it is set aside."""

FAILURES: Final = 2
"""Times that workers may say they cannot do it."""


@dataclass(slots=True)
class Queue:
    """Shards by name."""

    waiting: deque[str]
    running: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)
    aside: dict[str, str] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, names: Iterable[str], settled: Iterable[str] = ()) -> Queue:
        """All of `names` that are not settled, in that order."""
        done = set(settled)
        return cls(deque(name for name in names if name not in done), settled=done)

    @property
    def busy(self) -> bool:
        """Whether anything is left to do or to hear of."""
        return bool(self.waiting or self.running)

    def next(self) -> str | None:
        """The next shard, running from now on; None where none waits."""
        if not self.waiting:
            return None
        name = self.waiting.popleft()
        self.running.add(name)
        return name

    def done(self, name: str) -> None:
        """A shard has its verdict, whoever made it."""
        self.running.discard(name)
        self.settled.add(name)

    def lost(self, name: str, reason: str) -> None:
        """The worker that had it is gone."""
        self.losses[name] += 1
        told = f"{LOSSES} workers were lost over it; the last: {reason}"
        self._again(name, told, enough=self.losses[name] >= LOSSES)

    def failed(self, name: str, reason: str) -> None:
        """A worker gave it up, and said why."""
        self.failures[name] += 1
        self._again(name, reason, enough=self.failures[name] >= FAILURES)

    def _again(self, name: str, reason: str, *, enough: bool) -> None:
        self.running.discard(name)
        if enough:
            self.aside[name] = reason
        else:
            # Behind the others: a shard that loses its workers must not keep them from the rest.
            self.waiting.append(name)
