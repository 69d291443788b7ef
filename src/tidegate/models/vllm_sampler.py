"""The plug-in inside vLLM: one logits processor for both of its model runners.

vLLM is asked for greedy decoding. For each seeded row the token is drawn here (`models.draw`) and
left as the only one that is not masked, so that vLLM's argmax takes it. Other rows stay as they
are. Read with vLLM 0.32.0: `v1/sample/` (first runner), `v1/worker/gpu/sample/` (second runner).

Log-probabilities of vLLM's default mode, `raw_logprobs`, are computed before: they are the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from vllm import __version__
from vllm.v1.sample.logits_processor.interface import LogitsProcessor as FirstInterface
from vllm.v1.sample.logits_processor.interface import MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as SecondInterface

from tidegate.errors import EngineError
from tidegate.models.draw import Drawer, Row
from tidegate.models.vllm_contract import Draw, RefusedError
from tidegate.models.vllm_guard import check_request, check_start
from tidegate.sampling.filters import PenaltyState, needs_penalties


@dataclass(slots=True)
class _Sequence:
    """A row of the first runner's batch. `output` is vLLM's own growing list."""

    draw: Draw
    prompt: Sequence[int]
    output: Sequence[int]
    drawn: dict[int, int] = field(default_factory=dict)
    """Where penalties count them: our tokens, since vLLM writes -1 for those still on the way."""

    def row(self) -> Row:
        position = len(self.output)
        state = None
        if needs_penalties(self.draw.params):
            known = [t if t >= 0 else self.drawn.get(i, -1) for i, t in enumerate(self.output)]
            state = _counted(self.prompt, known)
        return Row(self.draw.params, self.draw.seed, position, state)

    def took(self, token: int) -> None:
        if needs_penalties(self.draw.params):
            self.drawn[len(self.output)] = token


class Sampler(FirstInterface, SecondInterface):  # type: ignore[misc]
    """Draws the tokens of seeded requests. One object in each process that samples.

    The first runner keeps rows by their place in the batch and tells of changes (`update_state`);
    the second keeps them by slot (`add_request`) and gives each step's layout to `apply`.
    """

    def __init__(self, vllm_config: Any, where: Any, is_pin_memory: bool = False) -> None:
        """`where` is a device (first runner) or the state of requests (second runner).

        Raises RefusedError for a configuration or a version whose answers cannot be replayed.
        """
        check_start(vllm_config, __version__)
        self._requests = where
        self._vocab_size = int(vllm_config.model_config.get_vocab_size())
        self._drawer = Drawer(self._vocab_size)
        self._rows: dict[int, _Sequence] = {}
        self._slots: dict[int, Draw] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raise ValueError, which vLLM answers with 400, for a request that is refused."""
        try:
            check_request(sampling_params)
        except RefusedError as error:
            raise ValueError(error.message) from error

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        """First runner: who came, went and moved. Raises RefusedError for what slipped through."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, params, prompt, output in batch_update.added:
            self._rows.pop(index, None)
            draw = self._admit(params)
            if draw is not None:
                self._rows[index] = _Sequence(draw, prompt or (), output)
        for one, other, direction in batch_update.moved:
            moved, replaced = self._rows.pop(one, None), self._rows.pop(other, None)
            if moved is not None:
                self._rows[other] = moved
            if replaced is not None and direction == MoveDirectionality.SWAP:
                self._rows[one] = replaced

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Second runner: a request takes a slot. Raises RefusedError as `update_state`."""
        self._slots.pop(req_idx, None)
        draw = self._admit(sampling_params)
        if draw is not None:
            self._slots[req_idx] = draw
        return draw is not None

    def apply(self, logits: Tensor, ctx: Any = None) -> Tensor:
        """Mask all but the drawn token in each seeded row of logits_NV (float32), in place.

        Raises EngineError where a row holds a NaN or nothing finite.
        """
        if ctx is not None:
            self._force(logits, self._second_rows(logits, ctx))
        elif self._rows:
            places = [index for index in sorted(self._rows) if index < len(logits)]
            tokens = self._force(logits, {index: self._rows[index].row() for index in places})
            for index, token in zip(places, tokens, strict=True):
                self._rows[index].took(token)
        return logits

    def _admit(self, params: Any) -> Draw | None:
        draw = check_request(params)
        if draw is None or not draw.params.logit_bias:
            return draw
        # No such token can be said, so nothing changes; but one request must not stop the engine.
        biases = tuple(one for one in draw.params.logit_bias if one[0] < self._vocab_size)
        return replace(draw, params=replace(draw.params, logit_bias=biases))

    def _second_rows(self, logits: Tensor, ctx: Any) -> dict[int, Row]:
        slots = ctx.idx_mapping_np
        if len(logits) != len(slots):
            raise EngineError("a request has several rows; speculative decoding is refused")
        rows = {}
        for index, (slot, length) in enumerate(
            zip(slots.tolist(), ctx.seq_lens_upper_bound_np.tolist(), strict=True)
        ):
            position = length - int(self._requests.prompt_len.np[slot])
            # A prompt that is read in pieces gives rows whose tokens nobody takes.
            if slot in self._slots and position >= 0:
                rows[index] = self._second_row(slot, length, position)
        return rows

    def _second_row(self, slot: int, length: int, position: int) -> Row:
        draw = self._slots[slot]
        state = None
        if needs_penalties(draw.params):
            tokens = self._requests.all_token_ids.gpu[slot, :length].tolist()
            state = _counted(tokens[: length - position], tokens[length - position :])
        return Row(draw.params, draw.seed, position, state)

    def _force(self, logits: Tensor, rows: dict[int, Row]) -> list[int]:
        if not rows:
            return []
        whole = len(rows) == len(logits)
        places = torch.tensor(list(rows), device=logits.device)
        tokens = self._drawer.tokens(logits if whole else logits[places], list(rows.values()))
        if whole:
            logits.fill_(-torch.inf)
        else:
            logits[places] = -torch.inf
        logits[places, tokens] = 0.0
        # Only penalties read the list, and a copy from a GPU would wait for it.
        if any(row.state is not None for row in rows.values()):
            return [int(token) for token in tokens]
        return [-1] * len(rows)


def _counted(prompt: Sequence[int], output: Sequence[int]) -> PenaltyState:
    if any(token < 0 for token in output):
        raise EngineError("vLLM did not tell a token that a penalty counts", position=len(output))
    return PenaltyState.of(prompt, output)
