"""From a body to tokens and jobs. Blocking and free of I/O, so that it can run in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidegate.errors import TidegateError
from tidegate.openai_api.errors import invalid
from tidegate.openai_api.requests import Caps, Options, fit, parse_chat, parse_completion
from tidegate.openai_api.responses import ChatShape, CompletionShape, Shape, Stamp
from tidegate.sampling.finish import Limits
from tidegate.serve.jobs import Job

ShapeMaker = Callable[[Stamp, bool], Shape]


class PromptTokenizer(Protocol):
    """The part of `models.port.Tokenizer` that prompts need. Called from several threads."""

    def encode(self, text: str) -> list[int]: ...

    def chat(self, messages: Sequence[Mapping[str, object]]) -> list[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request whose prompts are tokens, and how its answer is dressed.

    `limits` holds one entry for each prompt; `prefix` begins the answer's id.
    """

    prompts: tuple[tuple[int, ...], ...]
    limits: tuple[Limits, ...]
    options: Options
    shape: ShapeMaker
    prefix: str


def read_chat(body: bytes, model: str, caps: Caps, tokenizer: PromptTokenizer) -> Asked:
    """A chat request. Raises ApiError (400, 404)."""
    request = parse_chat(body, caps)
    _check_model(request.options.model, model)
    messages = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    try:
        prompt = tuple(tokenizer.chat(messages))
    except TidegateError:
        raise invalid(
            "This model's chat template does not take these messages in this order.",
            param="messages",
        ) from None
    return _asked((prompt,), request.options, caps, _chat_shape, "chatcmpl-")


def read_completion(body: bytes, model: str, caps: Caps, tokenizer: PromptTokenizer) -> Asked:
    """A completion request. Raises ApiError (400, 404)."""
    request = parse_completion(body, caps)
    _check_model(request.options.model, model)
    prompts = tuple(
        tuple(tokenizer.encode(prompt)) if isinstance(prompt, str) else prompt
        for prompt in request.prompts
    )
    return _asked(prompts, request.options, caps, _completion_shape, "cmpl-")


def jobs_of(asked: Asked, request_id: str, principal: str, attempt: int = 0) -> tuple[Job, ...]:
    """One job for each prompt and each of its n choices, in OpenAI's order of choices."""
    options = asked.options
    return tuple(
        Job(
            request_id=request_id,
            choice=place * options.n + repeat,
            principal=principal,
            prompt_ids=prompt,
            params=options.params,
            limits=limits,
            user_seed=options.seed,
            attempt=attempt,
            candidates=options.candidates,
            reasoning=options.reasoning,
            reasoning_ref=options.reasoning_ref,
            session=options.session,
        )
        for place, (prompt, limits) in enumerate(zip(asked.prompts, asked.limits, strict=True))
        for repeat in range(options.n)
    )


def _asked(
    prompts: tuple[tuple[int, ...], ...],
    options: Options,
    caps: Caps,
    shape: ShapeMaker,
    prefix: str,
) -> Asked:
    limits = tuple(
        Limits(
            max_tokens=fit(len(prompt), options.max_tokens, caps),
            stop=options.stop,
            ignore_eos=options.ignore_eos,
        )
        for prompt in prompts
    )
    return Asked(prompts=prompts, limits=limits, options=options, shape=shape, prefix=prefix)


def _check_model(asked: str, served: str) -> None:
    if asked != served:
        raise invalid(
            "This model is not served here; GET /v1/models names the one that is.",
            param="model",
            code="model_not_found",
            status=404,
        )


def _chat_shape(stamp: Stamp, include_usage: bool) -> Shape:
    return ChatShape(stamp, include_usage=include_usage)


def _completion_shape(stamp: Stamp, include_usage: bool) -> Shape:
    return CompletionShape(stamp, include_usage=include_usage)
