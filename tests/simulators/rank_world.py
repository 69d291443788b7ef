"""A small exact model cut into stages, with every rank but the first behind a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.models.exact.ops_numpy import NumpyLinear, NumpyOps
from tidegate.models.exact.parameters import Tensors
from tidegate.models.exact.rank_server import RankServer
from tidegate.models.exact.ranks import Rank, RankedModel
from tidegate.models.exact.shape import Shape
from tidegate.models.exact.stage import Stage, layout_of, names_of, span_of
from tidegate.models.port import ModelInfo

SECRET = b"what ranks know of each other, 32."
ROOT = "5" * 64


def stage(shape: Shape, tensors: Tensors, rank: int, ranks: int) -> Stage:
    """One rank's part, from nothing but the tensors it is said to need; in numpy, unexamined."""
    span = span_of(shape.layers, rank, ranks)
    kept = {name: tensors[name] for name in names_of(tensors, span)}
    parameters, own = layout_of(shape, span, kept)
    linear = NumpyLinear(parameters.shape, own)
    return Stage(shape, span, linear, NumpyOps(parameters), parameters)


@dataclass
class RankWorld:
    """Ranks 1 and up are served from a thread; they can be killed and brought back."""

    shape: Shape
    tensors: Tensors
    ranks: int
    folder: Path
    timeout_s: float = 10.0
    root: str = ROOT
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _servers: dict[int, asyncio.Server] = field(default_factory=dict)
    _tasks: dict[int, set[asyncio.Task[None]]] = field(default_factory=dict)
    stages: dict[int, Stage] = field(default_factory=dict)

    def __enter__(self) -> RankWorld:
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        for rank in range(1, self.ranks):
            self.start(rank)
        return self

    def __exit__(self, *_: object) -> None:
        for rank in list(self._servers):
            self.kill(rank)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def start(self, rank: int) -> None:
        """A process with nothing in its pages."""
        self.stages[rank] = stage(self.shape, self.tensors, rank, self.ranks)
        server = RankServer(self.stages[rank], SECRET, self.root)
        tasks = self._tasks[rank] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            await server.handle(reader, writer)

        started = asyncio.start_unix_server(handle, self.path(rank))
        self._servers[rank] = asyncio.run_coroutine_threadsafe(started, self._loop).result(10)

    def kill(self, rank: int) -> None:
        """It is gone, with its connections."""

        async def gone() -> None:
            self._servers.pop(rank).close()
            for task in self._tasks[rank]:
                task.cancel()
            await asyncio.gather(*self._tasks[rank], return_exceptions=True)

        asyncio.run_coroutine_threadsafe(gone(), self._loop).result(10)
        self.path(rank).unlink(missing_ok=True)

    def path(self, rank: int) -> Path:
        return self.folder / f"{rank}.sock"

    def connect(self, rank: int) -> socket.socket:
        there = socket.socket(socket.AF_UNIX)
        there.settimeout(self.timeout_s)
        there.connect(str(self.path(rank)))
        return there

    def leader(self, *, secret: bytes = SECRET, pass_rows: int = 256) -> RankedModel:
        """Rank 0, which has not asked the others to join yet."""
        others = [
            Rank(rank, self.ranks, lambda rank=rank: self.connect(rank), secret, ROOT)  # type: ignore[misc]
            for rank in range(1, self.ranks)
        ]
        return RankedModel(
            stage(self.shape, self.tensors, 0, self.ranks),
            others,
            vocab_size=self.shape.vocab_size,
            context_length=self.shape.context_length,
            info=ModelInfo(name="tiny", parameters=1, licence="", provenance="", numerics=""),
            fingerprint=ROOT,
            eos_ids=frozenset(),
            pass_rows=pass_rows,
        )
