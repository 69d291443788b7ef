"""`engine_port.DrawingEngine` over a `port.Model`: every adapter is held to what this one draws."""

from __future__ import annotations

import itertools

import numpy as np

from tidegate.models.engine_port import Ask, Drawn, EngineLostError, check_ask
from tidegate.models.port import F32Array, Model, ModelInfo
from tidegate.sampling.filters import PenaltyState, mask_scores, needs_penalties, shift_logits
from tidegate.sampling.gumbel import greedy, sample


class ModelEngine:
    """Draws one token a call. Not thread-safe, as the model behind it is not."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._ids = itertools.count()
        self.context_length = model.context_length

    def describe(self) -> ModelInfo:
        return self._model.describe()

    def start(self, ask: Ask) -> ModelDrawing:
        """See `engine_port.DrawingEngine.start`."""
        check_ask(ask, self.context_length)
        return ModelDrawing(self._model, next(self._ids), ask)

    def close(self) -> None:
        """Nothing to end."""


class ModelDrawing:
    """One sequence of the model."""

    def __init__(self, model: Model, number: int, ask: Ask) -> None:
        self._model = model
        self._number = number
        self._ask = ask
        self._pending = ask.prompt
        self._count = 0
        self._ended = False
        self._penalties = PenaltyState.of(ask.prompt) if needs_penalties(ask.params) else None

    def take(self) -> Drawn:
        """See `engine_port.Drawing.take`. Raises as the model does, too."""
        if self._ended:
            raise EngineLostError("the sequence has ended")
        ask = self._ask
        logits_V = self._model.forward([(self._number, self._pending)])[0]
        scores_V = mask_scores(shift_logits(logits_V, ask.params, self._penalties), ask.params)
        hot = ask.params.temperature > 0.0
        token = sample(scores_V, ask.seed, self._count) if hot else greedy(scores_V)
        self._pending = (token,)
        self._count += 1
        if self._penalties is not None:
            self._penalties = self._penalties.advance(token)
        if self._count == ask.max_tokens or token in ask.ends:
            self.close()
        return Drawn(token, logprob_of(logits_V, token) if ask.logprobs else None)

    def close(self) -> None:
        """See `engine_port.Drawing.close`."""
        if not self._ended and self._count:
            self._model.drop(self._number)
        self._ended = True


def logprob_of(logits_V: F32Array, token: int) -> float:
    """The natural log-probability of `token` under raw logits."""
    best = logits_V.max()
    total = float(np.exp(logits_V - best, dtype=np.float32).sum(dtype=np.float64))
    return float(logits_V[token] - best) - float(np.log(total))
