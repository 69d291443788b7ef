"""Next tokens for rows of a serving engine's logits, drawn as `sampling` defines.

On the CPU the rows go through `sampling` itself, one by one; elsewhere through `draw_torch`, all at
once and without leaving the device. Both give the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tidegate.errors import EngineError
from tidegate.models import draw_torch, draw_torch_filters
from tidegate.sampling.filters import PenaltyState, mask_scores, needs_penalties, shift_logits
from tidegate.sampling.gumbel import Noise
from tidegate.sampling.params import SamplingParams

NO_SEED = bytes(32)
"""Stands where a greedy row has none; nothing is drawn from it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of logits: how its token is drawn, and which of the answer's tokens it is.

    `state` is the sequence so far, where `needs_penalties` of the parameters asks for it.
    """

    params: SamplingParams
    seed: bytes
    position: int
    state: PenaltyState | None = None

    def __post_init__(self) -> None:
        """Raises EngineError for penalties without the sequence that they count."""
        if self.state is None and needs_penalties(self.params):
            raise EngineError("penalties need the tokens so far", position=self.position)


class Drawer:
    """Draws tokens on one device; keeps the noise's memory. Not safe to share between threads."""

    def __init__(self, vocab_size: int) -> None:
        self._noise = Noise(vocab_size)
        self._silent = Noise(vocab_size)

    def tokens(self, logits_NV: Tensor, rows: Sequence[Row]) -> Tensor:
        """tokens_N (int64, on the logits' device): the token of each row.

        logits: float32 [N, V]; not written to. Raises EngineError where a row has no finite best
        score or holds a NaN, or a biased or counted id is outside the vocabulary.
        """
        if logits_NV.device.type == "cpu":
            logits = logits_NV.numpy()
            return torch.tensor([self._token(v, row) for v, row in zip(logits, rows, strict=True)])
        return tokens_on_device(logits_NV, rows)

    def _token(self, logits_V: np.ndarray[tuple[int], np.dtype[np.float32]], row: Row) -> int:
        scores_V = mask_scores(shift_logits(logits_V, row.params, row.state), row.params)
        if row.params.temperature == 0.0:
            return self._silent.sample(scores_V)
        self._noise.move(row.seed, row.position)
        return self._noise.sample(scores_V)


def tokens_on_device(logits_NV: Tensor, rows: Sequence[Row]) -> Tensor:
    """See `Drawer.tokens`; for any device, the CPU included."""
    params = [row.params for row in rows]
    shifted_NV = draw_torch_filters.shift_rows(logits_NV, params, [row.state for row in rows])
    scores_NV = draw_torch_filters.mask_rows(shifted_NV, params)
    device = logits_NV.device
    drawn = [one.temperature > 0 for one in params]
    words = [draw_torch.seed_words(row.seed or NO_SEED) for row in rows]
    return draw_torch.sample_rows(
        scores_NV,
        torch.tensor(words, device=device),
        torch.tensor([row.position for row in rows], device=device),
        torch.tensor(drawn, dtype=torch.int64, device=device),
    )
