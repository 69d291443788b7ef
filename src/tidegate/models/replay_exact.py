"""`replay_port.Replay` over the exact engine: the bits that decoding gave, many rows a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidegate.models.exact.model import ExactModel
from tidegate.models.port import F32Array
from tidegate.models.replay_forced import ForcedReplay


class ExactReplay(ForcedReplay):
    """Scores answers on an `ExactModel`; full pages of a shared prompt are computed once."""

    def __init__(self, model: ExactModel) -> None:
        super().__init__(model)
        self._model = model

    def _forced(self, tokens: Sequence[int], first: int) -> Iterator[F32Array]:
        return self._model.forced(tokens, first)
