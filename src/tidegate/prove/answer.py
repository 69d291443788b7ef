"""An answer token by token: drawn, and ended, as the inner half draws and ends it.

Prover and verifiers run this same code on logits; it is the link's sampling (spec/sampling-seed.md,
spec/noise.md) and the rule by which both halves end a stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as BackendTokenizer

from tidegate.models.tokenizer import FileTokenizer
from tidegate.prove.statement import Request, Statement
from tidegate.prove.verdict import FoundError, Place, UnverifiableError
from tidegate.sampling.filters import PenaltyState, mask_scores, needs_penalties, shift_logits
from tidegate.sampling.finish import FinishReason, Progress, Rules, decide
from tidegate.sampling.gumbel import Noise
from tidegate.sampling.noise import SCORE_BITS
from tidegate.sampling.seed import sub_seed

F32Array = NDArray[np.float32]
Detokenise = Callable[[Sequence[int]], str]


class Answer:
    """The answer to a request so far. Use `choose`, then `take`, once a token."""

    def __init__(
        self, request: Request, vocab_size: int, eos_ids: frozenset[int], detokenise: Detokenise
    ) -> None:
        self._params = request.params
        self._rules = Rules(request.limits, eos_ids, detokenise, text=False)
        self._seed = sub_seed(request.seed, "candidate", 0)
        self._noise = Noise(vocab_size)
        penalised = needs_penalties(request.params)
        self._penalties = PenaltyState.of(request.prompt_ids) if penalised else None
        self._progress = Progress()
        self.count = 0

    def choose(self, logits_V: F32Array) -> int:
        """The token that seed and parameters give for these logits. Raises EngineError."""
        scores_V = self._scores(logits_V)
        return self._drawn().sample(scores_V)

    def best(self, logits_V: F32Array, wanted: int) -> list[int]:
        """The tokens nearest to being chosen, best first. Raises EngineError."""
        scores_V = self._scores(logits_V)
        return [int(token) for token in self._drawn().rank(scores_V, wanted).ids]

    def shortfall(self, logits_V: F32Array, token: int) -> float:
        """By how much a token's logit is too low for it to be chosen, to about 1/64; infinite where
        a filter masks it. Raises EngineError."""
        scores_V = self._scores(logits_V)
        best = int(self._drawn().sample(scores_V))
        two_V = np.full_like(scores_V, -np.inf)
        two_V[[best, token]] = scores_V[[best, token]]
        ranking = self._drawn().rank(two_V, 2)
        gaps = {int(one): int(gap) for one, gap in zip(ranking.ids, ranking.gaps, strict=True)}
        if token not in gaps:
            return math.inf
        return gaps[token] / float(1 << SCORE_BITS) * (self._params.temperature or 1.0)

    def _scores(self, logits_V: F32Array) -> F32Array:
        shifted_V = shift_logits(logits_V, self._params, self._penalties)
        return mask_scores(shifted_V, self._params)

    def _drawn(self) -> Noise:
        if self._params.temperature > 0.0:
            self._noise.move(self._seed, self.count)
        return self._noise

    def take(self, token: int) -> FinishReason | None:
        """Append a token; why the answer ends with it, if it does."""
        if self._penalties is not None:
            self._penalties = self._penalties.advance(token)
        decision = decide(self._progress, token, self._rules)
        self._progress = decision.progress
        self.count += 1
        return decision.reason


class Stated:
    """A stated answer, compared step by step with what it should have been."""

    def __init__(self, statement: Statement, answer: Answer) -> None:
        self._statement = statement
        self._answer = answer
        self._prompt = len(statement.request.prompt_ids)

    def require_tokens(self, vocab_size: int, context_length: int) -> None:
        """Raise FoundError or UnverifiableError where no model of this size gives such a thing."""
        statement = self._statement
        if self._prompt + len(statement.tokens) - 1 > context_length:
            raise UnverifiableError("prompt and answer are longer than the model's context")
        if max(statement.request.prompt_ids) >= vocab_size:
            raise UnverifiableError("the prompt has a token outside the model's vocabulary")
        for place, token in enumerate(statement.tokens):
            if token >= vocab_size:
                raise FoundError(self.choice(place), "there is no such token")

    def compare(self, place: int, logits_V: F32Array | None) -> None:
        """Take the answer's token number `place`; with logits, raise FoundError if they give
        another. Raises it too where the stop rules and the statement's end differ."""
        statement = self._statement
        token = statement.tokens[place]
        if logits_V is not None and self._answer.choose(logits_V) != token:
            raise FoundError(
                self.choice(place), "seed, parameters and logits give another token here"
            )
        reason = self._answer.take(token)
        expected = statement.reason if place == len(statement.tokens) - 1 else None
        if reason != expected:
            told = {None: "goes on", "stop": "stops", "length": "is cut for length"}[reason]
            where = Place(part="stop", token=self._prompt + place)
            raise FoundError(where, f"by the stop rules the answer {told} here")

    def choice(self, place: int) -> Place:
        """Where the answer's token number `place` is."""
        return Place(part="choice", token=self._prompt + place)


def detokeniser(tokenizer_json: bytes, needed: bool) -> Detokenise:
    """Text of token ids from a tokenizer file's bytes, opened only if `needed` (stop strings are).

    Raises UnverifiableError if it is needed and there is none.
    """
    if not needed:
        return lambda ids: ""
    if not tokenizer_json:
        raise UnverifiableError("stop strings cannot be checked: the model has no tokenizer")
    backend = BackendTokenizer.from_str(tokenizer_json.decode())
    return FileTokenizer(backend, None, {}, frozenset()).decode
