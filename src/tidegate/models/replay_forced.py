"""What the adapters of `replay_port.Replay` share: checks, order, and pieces of bounded size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from tidegate.models.port import F32Array, ModelInfo
from tidegate.models.replay_port import PIECE_ROWS, Forced, check_forced


class Opened(Protocol):
    """What a replay says of the model behind it; a `port.Model` does."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def context_length(self) -> int: ...

    @property
    def eos_ids(self) -> frozenset[int]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def exact(self) -> bool: ...

    def describe(self) -> ModelInfo: ...


class ForcedReplay(ABC):
    """`replay_port.Replay` over any opened model; an adapter adds the pass itself."""

    def __init__(self, model: Opened) -> None:
        self.vocab_size = model.vocab_size
        self.context_length = model.context_length
        self.eos_ids = model.eos_ids
        self.fingerprint = model.fingerprint
        self.exact = model.exact
        self._describe = model.describe

    @abstractmethod
    def _forced(self, tokens: Sequence[int], first: int) -> Iterator[F32Array]:
        """logits_LV after each of `tokens[first:]`, ascending, some at a time."""

    def describe(self) -> ModelInfo:
        return self._describe()

    def logits(self, sequences: Sequence[Forced]) -> Iterator[F32Array]:
        """See `replay_port.Replay.logits`."""
        self._check(sequences)
        for prompt, outputs in sequences:
            parts = list(self._forced([*prompt, *outputs[:-1]], len(prompt) - 1))
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)

    def pieces(self, prompt: Sequence[int], outputs: Sequence[int]) -> Iterator[F32Array]:
        """See `replay_port.Replay.pieces`."""
        self._check([(prompt, outputs)])
        for logits_LV in self._forced([*prompt, *outputs[:-1]], len(prompt) - 1):
            for start in range(0, len(logits_LV), PIECE_ROWS):
                yield logits_LV[start : start + PIECE_ROWS]

    def _check(self, sequences: Sequence[Forced]) -> None:
        check_forced(sequences, vocab_size=self.vocab_size, context_length=self.context_length)
