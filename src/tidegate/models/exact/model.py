"""`port.Model` over the exact engine: any batch, any split, the same bits.

Tokens of all sequences of a call run together, some hundreds at a time, whether they prefill or
decode: what shares a pass cannot be told from the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tidegate.models.batch import Batch, check_batch
from tidegate.models.exact import forward
from tidegate.models.exact.cache import Cache
from tidegate.models.exact.ops import Linear, Ops
from tidegate.models.exact.parameters import Parameters
from tidegate.models.port import F32Array, ModelInfo

Part = tuple[int, list[int]]

_FORCED = -1
"""The sequence whose answer is known; callers number theirs from 0."""


class ExactModel:
    """Runs passes and keeps sequences. `max_context` caps what the shape allows.

    `linear` is where products come from; a recorder may be put in its place between calls. With
    `reuse` a sequence begins with pages another one computed, whose products nobody then sees.
    `pass_rows` bounds the tokens that run together, and so the memory a pass takes.
    """

    exact = True

    def __init__(
        self,
        parameters: Parameters,
        linear: Linear,
        ops: Ops,
        *,
        info: ModelInfo,
        fingerprint: str,
        eos_ids: frozenset[int],
        max_context: int | None = None,
        pass_rows: int = 256,
    ) -> None:
        shape = parameters.shape
        self.linear = linear
        self.reuse = True
        self.fingerprint = fingerprint
        self.eos_ids = eos_ids
        self.vocab_size = shape.vocab_size
        self.context_length = min(shape.context_length, max_context or shape.context_length)
        self._parameters = parameters
        self._ops = ops
        self._info = info
        self._pass_rows = pass_rows
        self._cache = Cache(shape, ops)

    def describe(self) -> ModelInfo:
        return self._info

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`."""
        check_batch(
            batch,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            length_of=self._cache.length,
        )
        before = {sequence_id: self._cache.length(sequence_id) for sequence_id, _ in batch}
        done = False
        try:
            logits_NV = self._run(batch)
            done = True
        finally:
            if not done:
                for sequence_id, length in before.items():
                    self._cache.cut(sequence_id, length)
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy of a sequence. Raises ModelError for an unknown or taken id."""
        self._cache.fork(sequence_id, new_id)

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        self._cache.drop(sequence_id)

    def forced(self, tokens: Sequence[int], first: int) -> Iterator[F32Array]:
        """logits_LV after each of `tokens[first:]`, at most `pass_rows` of them at a time.

        A sequence of its own, forgotten at the end. Raises ModelError as `forward`.
        """
        check_batch(
            [(_FORCED, tokens)],
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            length_of=lambda _: 0,
        )
        place = self._cache.start(_FORCED, tokens[: first + 1] if self.reuse else ())
        try:
            while place < len(tokens):
                piece = list(tokens[place : place + self._pass_rows])
                parts = [(_FORCED, piece)]
                rows = self._cache.rows(parts, range(max(0, first - place), len(piece)))
                logits_LV = forward.run(
                    self._parameters, self.linear, self._ops, self._cache.pool, rows
                )
                self._cache.commit(parts)
                place += len(piece)
                if len(logits_LV):
                    yield logits_LV
        finally:
            self._cache.drop(_FORCED)

    def _run(self, batch: Batch) -> F32Array:
        work = []
        for sequence_id, tokens in batch:
            known = 0
            if not self._cache.length(sequence_id):
                known = self._cache.start(sequence_id, tokens if self.reuse else ())
            work.append((sequence_id, list(tokens[known:])))
        found = []
        for parts, last in passes(work, self._pass_rows):
            rows = self._cache.rows(parts, last)
            logits_LV = forward.run(
                self._parameters, self.linear, self._ops, self._cache.pool, rows
            )
            self._cache.commit(parts)
            found.append(logits_LV)
        return found[0] if len(found) == 1 else np.concatenate(found)


def passes(work: Sequence[Part], most: int) -> Iterator[tuple[list[Part], list[int]]]:
    """Cut `work` into passes of at most `most` rows, each with its rows that end a sequence."""
    parts: list[Part] = []
    last: list[int] = []
    size = 0
    for sequence_id, tokens in work:
        place = 0
        while place < len(tokens):
            piece = tokens[place : place + most - size]
            parts.append((sequence_id, piece))
            place += len(piece)
            size += len(piece)
            if place == len(tokens):
                last.append(size - 1)
            if size == most:
                yield parts, last
                parts, last, size = [], [], 0
    if parts:
        yield parts, last
