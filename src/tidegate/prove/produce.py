"""The prover: generates answers with the exact engine and commits to how it did.

Runs beside the weights. The recorder replaces the engine's `Linear` while answers are under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.errors import EngineError
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.shape import Shape
from tidegate.models.port import Model
from tidegate.prove.answer import Answer, Detokenise
from tidegate.prove.recording import Buffers, Recorder, Recording, Sink
from tidegate.prove.statement import Request, Statement


@dataclass(frozen=True, slots=True)
class Produced:
    """An answer and the root of its trace."""

    statement: Statement
    root: bytes


class Prover:
    """An engine whose answers leave traces. The model must hold no sequences."""

    def __init__(self, model: ExactModel, shape: Shape) -> None:
        self._model = model
        self._shape = shape
        self._buffers = Buffers()

    def produce(
        self,
        requests: Sequence[Request],
        detokenise: Detokenise,
        sinks: Sequence[Sink],
        progress: Progress = no_progress,
    ) -> list[Produced]:
        """Answer requests together, one sequence each, whose traces go to `sinks`.

        Raises ModelError and EngineError as the model does.
        """
        recordings = [
            Recording(self._shape, len(request.prompt_ids), sink, self._buffers)
            for request, sink in zip(requests, sinks, strict=True)
        ]
        model, plain = self._model, self._model.linear
        recorder = Recorder(plain, self._shape)
        for number, recording in enumerate(recordings):
            recorder.follow(number, recording)
        model.linear, model.reuse = recorder, False
        try:
            statements = generate(model, requests, detokenise, progress)
        finally:
            model.linear, model.reuse = plain, True
        return [
            Produced(statement, recording.finish(len(statement.tokens)))
            for statement, recording in zip(statements, recordings, strict=True)
        ]


def generate(
    model: Model,
    requests: Sequence[Request],
    detokenise: Detokenise,
    progress: Progress = no_progress,
) -> list[Statement]:
    """Answer requests together with any model, sequence ids from 0 on, and keep nothing.

    Raises EngineError where prompt and answer do not fit, ModelError as the model does.
    """
    for request in requests:
        if len(request.prompt_ids) + request.limits.max_tokens > model.context_length + 1:
            raise EngineError(
                "prompt and answer do not fit the model's context",
                context_length=model.context_length,
            )
    answers = [Answer(request, model.vocab_size, model.eos_ids, detokenise) for request in requests]
    tokens: list[list[int]] = [[] for _ in requests]
    done: dict[int, Statement] = {}
    pending = {number: request.prompt_ids for number, request in enumerate(requests)}
    most = sum(request.limits.max_tokens for request in requests)
    while pending:
        progress("generating", sum(map(len, tokens)), most)
        logits_NV = model.forward(list(pending.items()))
        for number, logits_V in zip(list(pending), logits_NV, strict=True):
            token = answers[number].choose(logits_V)
            tokens[number].append(token)
            pending[number] = (token,)
            if reason := answers[number].take(token):
                del pending[number]
                model.drop(number)
                done[number] = Statement(
                    request=requests[number], tokens=tuple(tokens[number]), reason=reason
                )
    progress("generating", most, most)
    return [done[number] for number in range(len(requests))]
