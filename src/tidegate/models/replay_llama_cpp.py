"""`replay_port.Replay` over llama.cpp: passes of a few hundred tokens of one answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidegate.models.llamacpp import LlamaCppModel
from tidegate.models.port import F32Array
from tidegate.models.replay_forced import ForcedReplay


class LlamaCppReplay(ForcedReplay):
    """Scores answers on a `LlamaCppModel`, which must have a sequence and cells to spare."""

    def __init__(self, model: LlamaCppModel) -> None:
        super().__init__(model)
        self._model = model

    def _forced(self, tokens: Sequence[int], first: int) -> Iterator[F32Array]:
        return self._model.forced(tokens, first)
