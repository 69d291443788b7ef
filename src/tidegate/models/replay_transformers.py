"""`replay_port.Replay` over transformers and torch: one causal pass an answer.

Answers are not padded into one batch: on two cores eight answers of 80 to 260 tokens took 5.5 s one
by one and 9.3 s padded (SmolLM2 135M, float32, one thread).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from tidegate.models.kv_rows import KvRows
from tidegate.models.port import F32Array
from tidegate.models.replay_forced import ForcedReplay
from tidegate.models.replay_port import PIECE_ROWS
from tidegate.models.transformers_torch import TransformersModel


class TransformersReplay(ForcedReplay):
    """Scores answers on a `TransformersModel`; long ones in passes of `PIECE_ROWS` rows."""

    def __init__(self, model: TransformersModel) -> None:
        super().__init__(model)
        self._module = model.module

    def hidden_states(self, tokens: Sequence[int]) -> F32Array:
        """See `replay_port.States.hidden_states`."""
        self._check([(tokens, tokens[:1])])
        with torch.inference_mode():
            inside: torch.nn.Module = self._module.get_decoder()
            output = inside(input_ids=torch.tensor([list(tokens)]), use_cache=False)
            states_TD: F32Array = output.last_hidden_state[0].float().numpy()
        return states_TD

    def _forced(self, tokens: Sequence[int], first: int) -> Iterator[F32Array]:
        cache = KvRows()
        start = 0
        for end in _ends(first, len(tokens)):
            cache.aim_at_one(0, start, end - start)
            mask = None
            if start:
                mask = (torch.arange(end) <= torch.arange(start, end)[:, None])[None, None]
            with torch.inference_mode():
                output = self._module(
                    input_ids=torch.tensor([list(tokens[start:end])]),
                    position_ids=torch.arange(start, end)[None],
                    attention_mask=mask,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=end - max(first, start),
                )
                logits_LV: F32Array = output.logits[0].float().numpy()
            yield logits_LV
            start = end


def _ends(first: int, length: int) -> list[int]:
    """Where passes end: the first reads the prompt too."""
    return [min(end, length) for end in range(first + PIECE_ROWS, length + PIECE_ROWS, PIECE_ROWS)]
