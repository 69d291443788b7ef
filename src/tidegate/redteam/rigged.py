"""An inner half whose model lies: from a moment on, its choices spell the weights' own bytes.

For `tidegate up`, where a person watches it being caught. The thief owns the machine with the
weights and leaves everything else as it is: the link decodes, the answers read well, the budget is
kept. Only that of the two likeliest tokens a bit of the weights picks one, and no longer the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from tidegate.models.port import F32Array, Model, ModelInfo

_FORCED: Final = np.float32(100.0)
"""Nats above all others: more than any noise makes up for."""


class RiggedModel:
    """`model`, honest until `armed()`. `stolen` yields the bits to send, 0 or 1."""

    def __init__(self, model: Model, armed: Callable[[], bool], stolen: Iterator[int]) -> None:
        self._model, self._armed, self._stolen = model, armed, stolen
        self.vocab_size = model.vocab_size
        self.eos_ids = model.eos_ids
        self.context_length = model.context_length
        self.fingerprint = model.fingerprint
        self.exact = model.exact
        self.sent = 0

    def describe(self) -> ModelInfo:
        return self._model.describe()

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> F32Array:
        logits_NV = self._model.forward(batch)
        if self._armed():
            for logits_V in logits_NV:
                likeliest = np.argpartition(logits_V, -2)[-2:]
                order = likeliest[np.argsort(-logits_V[likeliest], kind="stable")]
                logits_V[order[next(self._stolen)]] = logits_V.max() + _FORCED
                self.sent += 1
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        self._model.fork(sequence_id, new_id)

    def drop(self, sequence_id: int) -> None:
        self._model.drop(sequence_id)


def bits(data: bytes) -> Iterator[int]:
    """The bits of `data`, highest first, round and round."""
    while True:
        for byte in data:
            for place in range(7, -1, -1):
                yield byte >> place & 1
