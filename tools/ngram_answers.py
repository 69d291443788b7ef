"""Answers of a model to a list of prompts, kept in a file as they come: a run can resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tidegate.models.port import F32Array, Model

BATCH = 48


@dataclass(frozen=True)
class Wanted:
    """One answer: prompt number, temperature, take (a second take draws other noise)."""

    prompt: int
    temperature: float
    take: int


@dataclass
class _Running:
    wanted: Wanted
    noise: np.random.Generator
    ids: list[int] = field(default_factory=list)


def collect(
    model: Model,
    prompts: Mapping[int, Sequence[int]],
    wanted: Sequence[Wanted],
    path: Path,
    *,
    max_tokens: int,
    progress: Callable[[int], None],
) -> list[tuple[Wanted, list[int]]]:
    """All wanted answers; those already in `path` are not made again.

    `progress` hears the number of tokens added since it was last called. An answer ends with its
    end token or after `max_tokens`.
    """
    done = dict(_read(path))
    missing = [one for one in wanted if one not in done]
    running: dict[int, _Running] = {}
    numbers = iter(range(len(missing)))
    with path.open("a") as output:
        while True:
            batch: list[tuple[int, Sequence[int]]] = [
                (slot, run.ids[-1:]) for slot, run in running.items()
            ]
            while len(batch) < BATCH and (number := next(numbers, None)) is not None:
                one = missing[number]
                seed = [one.prompt, round(100 * one.temperature), one.take]
                running[number] = _Running(one, np.random.default_rng(seed))
                batch.append((number, prompts[one.prompt]))
            if not batch:
                break
            logits_NV = model.forward(batch)
            for (slot, _), logits_V in zip(batch, logits_NV, strict=True):
                run = running[slot]
                run.ids.append(_draw(logits_V, run.wanted.temperature, run.noise))
                if run.ids[-1] in model.eos_ids or len(run.ids) == max_tokens:
                    _write(output.write, run)
                    done[run.wanted] = run.ids
                    model.drop(slot)
                    del running[slot]
            progress(len(batch))
            output.flush()
    return [(one, done[one]) for one in wanted]


def _draw(logits_V: F32Array, temperature: float, noise: np.random.Generator) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    weights_V = np.exp((logits_V - logits_V.max()) / np.float32(temperature))
    total_V = weights_V.cumsum(dtype=np.float64)
    return min(int(total_V.searchsorted(noise.random() * total_V[-1], "right")), len(total_V) - 1)


def _write(write: Callable[[str], object], run: _Running) -> None:
    one = run.wanted
    write(json.dumps([one.prompt, one.temperature, one.take, run.ids]) + "\n")


def _read(path: Path) -> Iterator[tuple[Wanted, list[int]]]:
    if not path.exists():
        return
    whole, _, torn = path.read_text().rpartition("\n")
    if torn:
        path.write_text(whole + "\n")
    for line in whole.splitlines():
        prompt, temperature, take, ids = json.loads(line)
        yield Wanted(prompt, temperature, take), ids
