"""Runs the exact engine so that every position's logits come out, in any batch and any split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ModelError
from tidegate.models.exact import forward
from tidegate.models.exact.backends import Engine, build
from tidegate.models.exact.cache import Cache
from tidegate.models.exact.format import Converted
from tidegate.models.exact.parameters import Parameters, parameters_of

F32 = NDArray[np.float32]

PASS_ROWS = 128
"""Tokens that run together in a prefill; bounds the logits held at a time."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many texts run side by side, and how many tokens of each a pass takes."""

    batch: int
    step: int


def prefill(batch: int = 1) -> Schedule:
    """Whole texts at once, as far as `PASS_ROWS` goes."""
    return Schedule(batch, PASS_ROWS // batch)


def decode(batch: int) -> Schedule:
    """One token of each text a pass."""
    return Schedule(batch, 1)


class Piece(NamedTuple):
    """logits_TV after tokens `first`, `first` + 1, … of text number `text`."""

    text: int
    first: int
    logits_TV: F32


class Runner:
    """A converted model on one back end."""

    def __init__(self, model: Converted, backend: str, threads: int) -> None:
        self._parameters: Parameters = parameters_of(model.shape, model.tensors)
        self._engine: Engine = build(backend, self._parameters, model.tensors, threads=threads)

    def run(self, texts: Sequence[Sequence[int]], schedule: Schedule) -> Iterator[Piece]:
        """Logits after every token of every text; an array may be overwritten by later passes.

        Raises ModelError for a text that is longer than the model's context.
        """
        longest = self._parameters.shape.context_length
        if max(map(len, texts), default=0) > longest:
            raise ModelError(f"a text is longer than the {longest} tokens the model was made for")
        cache = Cache(self._parameters.shape, self._engine.ops, spare=0)
        for start in range(0, len(texts), schedule.batch):
            group = range(start, min(start + schedule.batch, len(texts)))
            for number in group:
                cache.start(number, ())
            for place in range(0, max(len(texts[n]) for n in group), schedule.step):
                parts = [
                    (n, list(texts[n][place : place + schedule.step]))
                    for n in group
                    if place < len(texts[n])
                ]
                yield from self._pass(cache, parts, place)
            for number in group:
                cache.drop(number)

    def _pass(
        self, cache: Cache, parts: Sequence[tuple[int, list[int]]], place: int
    ) -> Iterator[Piece]:
        rows = cache.rows(parts, range(sum(len(tokens) for _, tokens in parts)))
        logits_NV = forward.run(
            self._parameters, self._engine.linear, self._engine.ops, cache.pool, rows
        )
        cache.commit(parts)
        done = 0
        for number, tokens in parts:
            yield Piece(number, place, logits_NV[done : done + len(tokens)])
            done += len(tokens)
