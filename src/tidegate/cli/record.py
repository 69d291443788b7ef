"""Which tokens each answer was, written down outside; held against what the inner half wrote."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TextIO, cast

import msgspec

from tidegate.sampling.seed import SeedService, commitment
from tidegate.serve.jobs import Delta, Engine, Event, Finished, Job, seed_of


class Answer(msgspec.Struct, frozen=True):
    """One finished answer. `seed` is the commitment to its seed, which both halves can compute."""

    request_id: str
    choice: int
    seed: str
    tokens: tuple[int, ...]
    bits: int


class RecordingEngine:
    """An engine whose finished answers are appended to a file."""

    def __init__(self, engine: Engine, seeds: SeedService, path: Path) -> None:
        """Raises OSError."""
        self._engine = engine
        self._seeds = seeds
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a", encoding="utf-8")
        path.chmod(0o600)  # it holds answers

    def healthy(self) -> bool:
        """Whether the engine behind is."""
        return self._engine.healthy()

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        """See `Engine.stream`."""
        tokens: list[int] = []
        # Closed with us, so that a reader who leaves cancels the stream at once.
        stream = cast("AsyncGenerator[Event, None]", self._engine.stream(job))
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Delta):
                    tokens += event.token_ids
                elif isinstance(event, Finished):
                    self._write(job, tokens, event.bits)
                yield event

    def _write(self, job: Job, tokens: list[int], bits: int) -> None:
        seed = seed_of(job, self._seeds)
        answer = Answer(job.request_id, job.choice, commitment(seed).hex(), tuple(tokens), bits)
        self._file.write(msgspec.json.encode(answer).decode() + "\n")
        self._file.flush()


def read(path: Path) -> list[Answer]:
    """The answers in a file. Raises OSError or msgspec.DecodeError."""
    return [msgspec.json.decode(line, type=Answer) for line in path.read_bytes().splitlines()]
