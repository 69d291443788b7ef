"""Tokens a second of the exact engine, beside torch in bf16 and fp32 and llama.cpp in Q8_0.

All run the same model on the same cores in one process, taking turns; a ratio is the median over
turns of the same number. Threads are as many as there are cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Mapping, Sequence

from tidegate.bench.figures import Figure, at_least, report
from tidegate.models.cache import Progress
from tidegate.models.port import Model

BATCHES = (1, 8, 32)
CONTEXT = 128
PREFILL = 512
STEPS = {1: 16, 8: 8, 32: 6}
"""Decode steps of a turn, so that none takes much longer than a second."""

Speeds = dict[str, list[float]]
"""Tokens a second of each engine, a turn after the other."""


def measure(
    engines: Mapping[str, Model], texts: Sequence[int], *, turns: int, progress: Progress
) -> dict[str, Figure]:
    """Figures of `engines`, of which `exact` and `bf16` are two; `texts` are tokens to feed."""
    figures: dict[str, Figure] = {}
    stages = [(f"decode{batch}", _decoder(texts, batch)) for batch in BATCHES]
    stages.append(("prefill", _prefiller(texts)))
    worst: tuple[float, str] | None = None
    for done, (stage, run) in enumerate(stages):
        speeds = _take_turns(engines, run, turns)
        progress("speed", done + 1, len(stages))
        figures |= _absolute(stage, speeds)
        for peer in engines.keys() - {"exact"}:
            ratio, told = _ratio(speeds, peer)
            if peer != "bf16":
                figures[f"speed.{stage}_over_{peer}"] = report(
                    ratio, unit="ratio", n=turns, how=told
                )
            elif stage == "prefill":
                figures["prefill_over_bf16"] = at_least(
                    ratio, 0.5, unit="ratio", n=turns, how=f"{PREFILL} tokens; {told}"
                )
            else:
                figures[f"decode_over_bf16.{stage.removeprefix('decode')}"] = at_least(
                    ratio, 0.8, unit="ratio", n=turns, how=told
                )
                worst = min(worst or (ratio, told), (ratio, told))
    if worst is not None:
        figures["decode_over_bf16"] = at_least(
            worst[0], 0.8, unit="ratio", n=turns, how=f"the least of batch 1, 8 and 32; {worst[1]}"
        )
    return figures


def _ratio(speeds: Speeds, peer: str) -> tuple[float, str]:
    ratios = [a / b for a, b in zip(speeds["exact"], speeds[peer], strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return statistics.median(ratios), f"median of {len(ratios)} alternating turns, {spread}"


def _absolute(stage: str, speeds: Speeds) -> dict[str, Figure]:
    return {
        f"speed.{stage}.{name}": report(
            statistics.median(values),
            unit="tokens/s",
            n=len(values),
            how=f"median, {min(values):.0f} to {max(values):.0f}",
        )
        for name, values in speeds.items()
    }


Turn = Callable[[Model], Generator[float]]
"""Prepares a model, then yields tokens a second, once a turn."""


def _take_turns(engines: Mapping[str, Model], run: Turn, turns: int) -> Speeds:
    speeds: Speeds = {name: [] for name in engines}
    running = {name: run(model) for name, model in engines.items()}
    for turn in range(turns + 1):
        for name, speed in running.items():
            value = next(speed)
            if turn:  # the first pays for what is allocated once
                speeds[name].append(value)
    for speed in running.values():
        speed.close()
    return speeds


def _decoder(texts: Sequence[int], batch: int) -> Turn:
    def run(model: Model) -> Generator[float]:
        for number in range(batch):
            model.forward([(number, _tokens(texts, 7 * number, CONTEXT))])
        try:
            place = 0
            while True:
                start = time.perf_counter()
                for _ in range(STEPS[batch]):
                    place += 1
                    model.forward([(n, _tokens(texts, place + n, 1)) for n in range(batch)])
                yield batch * STEPS[batch] / (time.perf_counter() - start)
        finally:
            for number in range(batch):
                model.drop(number)

    return run


def _prefiller(texts: Sequence[int]) -> Turn:
    def run(model: Model) -> Generator[float]:
        place = 0
        while True:
            # Never the same beginning twice: the exact engine would remember it.
            tokens = _tokens(texts, place, PREFILL)
            place += 61
            start = time.perf_counter()
            model.forward([(0, tokens)])
            seconds = time.perf_counter() - start
            model.drop(0)
            yield PREFILL / seconds

    return run


def _tokens(texts: Sequence[int], start: int, count: int) -> list[int]:
    return [texts[(start + place) % len(texts)] for place in range(count)]
