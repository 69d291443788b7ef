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
from tidegate.prove.answer import Answer, Detokenise
from tidegate.prove.recording import Recorder, Recording, Sink
from tidegate.prove.statement import Request, Statement


@dataclass(frozen=True, slots=True)
class Produced:
    """An answer, and the root of its trace if one was recorded."""

    statement: Statement
    root: bytes | None


def produce(
    model: ExactModel,
    shape: Shape,
    requests: Sequence[Request],
    detokenise: Detokenise,
    sinks: Sequence[Sink] | None,
    progress: Progress = no_progress,
) -> list[Produced]:
    """Answer requests together, one sequence each; `sinks` take the traces, None records none.

    The model must hold no sequences. Raises ModelError and EngineError as the model does.
    """
    answers = [Answer(request, model.vocab_size, model.eos_ids, detokenise) for request in requests]
    recordings = [
        Recording(shape, len(request.prompt_ids), sink)
        for request, sink in zip(requests, sinks or (), strict=False)
    ]
    tokens: list[list[int]] = [[] for _ in requests]
    done: dict[int, Produced] = {}
    plain = model.linear
    recorder = Recorder(plain, shape)
    if sinks is not None:
        model.linear, model.reuse = recorder, False
    try:
        for number, recording in enumerate(recordings):
            recorder.follow(number, recording)
        pending = {number: request.prompt_ids for number, request in enumerate(requests)}
        while pending:
            progress("generating", sum(map(len, tokens)), _most(requests))
            logits_NV = model.forward(list(pending.items()))
            for number, logits_V in zip(list(pending), logits_NV, strict=True):
                token = answers[number].choose(logits_V)
                tokens[number].append(token)
                pending[number] = (token,)
                reason = answers[number].take(token)
                if reason is None:
                    continue
                del pending[number]
                model.drop(number)
                recorder.release(number)
                said = tuple(tokens[number])
                statement = Statement(request=requests[number], tokens=said, reason=reason)
                root = recordings[number].finish(len(said)) if recordings else None
                done[number] = Produced(statement, root)
    finally:
        model.linear, model.reuse = plain, True
    progress("generating", _most(requests), _most(requests))
    return [done[number] for number in range(len(requests))]


def require_room(model: ExactModel, request: Request) -> None:
    """Raise EngineError unless prompt and answer fit the model's context."""
    if len(request.prompt_ids) + request.limits.max_tokens > model.context_length:
        raise EngineError(
            "prompt and answer do not fit the model's context",
            context_length=model.context_length,
        )


def _most(requests: Sequence[Request]) -> int:
    return sum(request.limits.max_tokens for request in requests)
