"""The processor inside SGLang: one object for all seeded rows of a batch.

SGLang is asked for greedy decoding. In each row the token is drawn here (`models.draw`) and left as
the only one that is not masked. Which place of the answer it is says the request itself: as many
tokens as it has already, which holds where scheduling does not overlap (`sglang_contract`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tidegate.errors import EngineError
from tidegate.models.draw import NO_SEED, Drawer, Row
from tidegate.models.vllm_contract import read
from tidegate.sampling.filters import PenaltyState, needs_penalties

_REQUEST = "__req__"  # SGLang puts the request among its own parameters, under this name


class Seeded:
    """What SGLang calls a custom logit processor; it needs no base class of SGLang's."""

    def __init__(self) -> None:
        self._drawer: Drawer | None = None

    def __call__(
        self, logits: Tensor, custom_param_list: Sequence[Mapping[str, Any] | None] | None = None
    ) -> Tensor:
        """Mask all but the drawn token in each row of logits_NV, in place.

        Raises RefusedError for parameters that `sglang_contract.check_request` lets nobody send,
        EngineError where a row holds a NaN or nothing finite.
        """
        rows = [_row(params) for params in custom_param_list or ()]
        if len(rows) != len(logits):
            raise EngineError("SGLang gives another number of rows than of parameters")
        if self._drawer is None:
            self._drawer = Drawer(logits.shape[1])
        tokens = self._drawer.tokens(logits.float(), rows)
        logits.fill_(float("-inf"))
        logits.scatter_(1, tokens.to(logits.device)[:, None], 0.0)
        return logits


def _row(params: Mapping[str, Any] | None) -> Row:
    given = dict(params or {})
    request = given.pop(_REQUEST, None)
    draw = read(given)
    if draw is None or request is None:
        raise EngineError("a row of SGLang's has no parameters of ours")
    state = None
    if needs_penalties(draw.params):
        state = PenaltyState.of(request.origin_input_ids, request.output_ids)
    return Row(draw.params, draw.seed or NO_SEED, len(request.output_ids), state)
