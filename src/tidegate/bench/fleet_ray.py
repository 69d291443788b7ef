"""The fleet on Ray: two workers beside one, and what is left of verdicts when machines are lost.

Shards of real answers are really re-executed, a thread a worker, with the model open on both before
the clock runs. Passes with one and with two workers take turns on the same actors; with one, the
other waits.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tidegate.bench import fleet_killed
from tidegate.bench.figures import Figure, at_least, report
from tidegate.bench.fleet import Options
from tidegate.bench.fleet_command import Place, plan_in
from tidegate.bench.fleet_served import Served, serve
from tidegate.errors import EngineError
from tidegate.models.cache import Progress
from tidegate.transparency.note import Verifier
from tidegate.verify.fleet_book import VERDICTS, Book
from tidegate.verify.fleet_executor import Event, Executor
from tidegate.verify.fleet_head import Head
from tidegate.verify.fleet_scale import Crew
from tidegate.verify.fleet_store_files import FileObjects
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_store_files import FileSource

ANSWERS = 48
TOKENS = 96
"""Of each answer; its prompt comes on top."""

SHARD_TOKENS = 160
TURNS = 3
TARGET = 1.7


def measure(progress: Progress, options: Options) -> dict[str, Figure]:
    """Ratios of throughput, and the campaign of `fleet_killed`. Raises TidegateError."""
    del options
    with tempfile.TemporaryDirectory(prefix="tidegate-fleet-") as name:
        folder = Path(name)
        served = serve(folder, ANSWERS, TOKENS, progress)
        figures = _efficiency(plan_in(folder / "speed", served, SHARD_TOKENS), progress)
        figures |= _reading(served)
        killed = plan_in(folder / "killed", served, 1)
        return figures | fleet_killed.measure(killed, progress)


def _reading(served: Served) -> dict[str, Figure]:
    """What planner and report do to each token, on one machine however many re-execute."""
    key = Verifier.parse(served.key.read_text().strip())
    seconds, tokens = [], 0
    for _ in range(TURNS + 1):
        begun = time.perf_counter()
        reader = Reader(FileSource(served.record), key)
        tokens = sum(len(one.tokens) for one in reader.read() if isinstance(one, Response))
        seconds.append(time.perf_counter() - begun)
    how = f"tokens of {served.answers} answers in a record, chain and checkpoints checked, one core"
    rate = tokens / statistics.median(seconds[1:])
    return {"record_tokens_read_per_s": report(rate, unit="tokens/s", n=TURNS, how=how)}


class _Limited:
    """An executor of which only so many workers are used; none is ever let go."""

    def __init__(self, inner: Executor, workers: int) -> None:
        self._inner = inner
        self.workers = workers
        self._busy = 0

    def resize(self, workers: int) -> None:
        del workers

    def room(self) -> bool:
        return self._busy < self.workers and self._inner.room()

    def start(self, name: str) -> None:
        self._busy += 1
        self._inner.start(name)

    def wait(self, timeout: float) -> tuple[Event, ...]:
        events = self._inner.wait(timeout)
        self._busy -= len(events)
        return events

    def close(self) -> None:
        self._inner.close()


def _efficiency(place: Place, progress: Progress) -> dict[str, Figure]:
    # Imported here: Ray is an extra, and takes seconds.
    from tidegate.verify.fleet_ray import RayExecutor

    objects = FileObjects(place.fleet)
    book = Book(objects, place.key.read_bytes())
    plan = book.plan()
    executor = RayExecutor(place.post, 2)
    try:
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(TURNS + 1):
            for workers in (2, 1):
                progress("passes on Ray", 2 * turn + (workers == 1), 2 * TURNS + 2)
                for name in objects.names(VERDICTS):
                    objects.delete(name)
                begun = time.perf_counter()
                limited = _Limited(executor, workers)
                drained = Head(book, plan, limited, Crew(least=workers, most=workers)).run()
                took = time.perf_counter() - begun
                if drained.fresh != len(plan.tickets):
                    raise EngineError(f"a pass left shards without a verdict: {drained}")
                # In the first turn workers open the model and pages are read in.
                seconds[workers] += [took] if turn else []
    finally:
        executor.close()
    progress("passes on Ray", 1, 1)
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    rate = plan.tokens / statistics.median(seconds[1])
    how = (
        f"{len(plan.tickets)} shards of {plan.answers} answers of SmolLM2 on the exact engine, a "
        f"thread a worker, in turns; passes of {min(seconds[2]):.1f} s with two workers; median of "
        f"{min(ratios):.2f} to {max(ratios):.2f}"
    )
    return {
        "ray_efficiency_2": at_least(
            statistics.median(ratios), TARGET, unit="ratio", n=len(ratios), how=how
        ),
        "ray_tokens_per_worker_second": report(
            rate, unit="tokens/s", n=TURNS, how="prompts included, one worker; the same passes"
        ),
    }
