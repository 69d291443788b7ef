"""From untrusted bytes to a bounded request, or an `ApiError` that says what is wrong with them.

Invariant (fuzzed in tests/fuzz/test_openai_api.py): any bytes either parse or raise `ApiError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

from tidegate.openai_api.errors import ApiError, invalid
from tidegate.openai_api.schema import ChatBody, ChatMessageBody, CompletionBody, TextPart
from tidegate.sampling.params import InvalidParamsError, SamplingParams

Role = Literal["system", "user", "assistant"]
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}

NO_LOGPROBS = (
    "logprobs are not served: each would cross the upload link at many bits a token, on which the"
    " cap on this model's weights depends."
)
_UNSUPPORTED = {
    "tools": "tool calls are not served.",
    "tool_choice": "tool calls are not served.",
    "parallel_tool_calls": "tool calls are not served.",
    "functions": "function calls are not served.",
    "function_call": "function calls are not served.",
    "response_format": "constrained output formats are not served.",
    "modalities": "only text is served.",
    "audio": "only text is served.",
    "suffix": "insertion is not served.",
    "store": "answers are not stored here.",
    "prompt_logprobs": NO_LOGPROBS,
    "top_logprobs": NO_LOGPROBS,
    "reasoning_effort": "reasoning is switched on or off by `reasoning`.",
}

_SHOWN_CHARS = 300
"""Longest parser message repeated to a client; it may quote a field name of any length."""

_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?$", re.S)
_MISSING_FIELD = re.compile(
    r"Object missing required field `(.*?)`(?: - at `\$\.?(.*)`)?$",
)
_AT = re.compile(r" - at `\$\.?(.*)`$", re.S)
_REFERENCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What one request may ask for. Configured outside; part of the upload budget's arithmetic.

    `max_choices` bounds prompts times `n`; `max_best_of` the answers generated inside for one
    prompt; `max_tokens` what one choice may be long; `reasoning` whether the model can be asked to
    think inside.
    """

    context_length: int
    vocab_size: int
    max_tokens: int
    max_choices: int
    max_best_of: int
    max_biases: int = 1024
    max_stop_chars: int = 256
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Several text parts are joined by a newline, as vLLM does."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All that is asked besides the prompt.

    `max_tokens` None means as many as fit. `candidates` answers are generated for each of the `n`
    choices and the winner of each leaves: `best_of` = `n` * `candidates`. `session` is what the
    client calls the conversation (`prompt_cache_key`); requests that name one alike go to one lane.
    """

    model: str
    params: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    ignore_eos: bool
    n: int
    candidates: int
    seed: int | None
    stream: bool
    include_usage: bool
    user: str | None
    session: str
    reasoning: bool
    reasoning_ref: str | None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked `POST /v1/chat/completions`."""

    messages: tuple[Message, ...]
    options: Options


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A checked `POST /v1/completions`; a prompt is text or token ids below the vocabulary size."""

    prompts: tuple[str | tuple[int, ...], ...]
    options: Options


def parse_chat(body: bytes, caps: Caps) -> ChatRequest:
    """Parse a chat request. Raises ApiError (400)."""
    asked = _decode(body, ChatBody)
    if asked.logprobs or asked.top_logprobs is not None:
        raise invalid(NO_LOGPROBS, param="logprobs", code="unsupported_parameter")
    if not asked.messages:
        raise invalid("messages must not be empty.", param="messages")
    limit = asked.max_tokens
    if asked.max_completion_tokens is not None:
        if limit not in (None, asked.max_completion_tokens):
            raise invalid(
                "max_tokens and max_completion_tokens differ; send one of them.",
                param="max_completion_tokens",
            )
        limit = asked.max_completion_tokens
    messages = tuple(_message(index, message) for index, message in enumerate(asked.messages))
    return ChatRequest(messages, _options(asked, limit, 1, caps))


def parse_completion(body: bytes, caps: Caps) -> CompletionRequest:
    """Parse a completion request. Raises ApiError (400)."""
    asked = _decode(body, CompletionBody)
    if asked.logprobs is not None:
        raise invalid(NO_LOGPROBS, param="logprobs", code="unsupported_parameter")
    if asked.echo:
        raise invalid("echo is not served.", param="echo", code="unsupported_parameter")
    prompts = _prompts(asked.prompt, caps)
    limit = 16 if asked.max_tokens is None else asked.max_tokens  # OpenAI's default here
    return CompletionRequest(prompts, _options(asked, limit, len(prompts), caps))


def fit(prompt_tokens: int, max_tokens: int | None, caps: Caps) -> int:
    """Most tokens the answer to a prompt of this length may have.

    Raises ApiError (400, `context_length_exceeded`) if prompt and answer exceed the context.
    """
    if prompt_tokens < 1:
        raise invalid("The prompt holds no tokens.", code="empty_prompt")
    room = caps.context_length - prompt_tokens
    wanted = min(caps.max_tokens, max(room, 1)) if max_tokens is None else max_tokens
    if wanted > room:
        raise invalid(
            f"This model's maximum context length is {caps.context_length} tokens. However, you"
            f" requested {prompt_tokens + wanted} ({prompt_tokens} in the prompt, {wanted} in the"
            " completion). Shorten either.",
            code="context_length_exceeded",
        )
    return wanted


_Body = TypeVar("_Body", ChatBody, CompletionBody)


def _decode(body: bytes, shape: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise _mistyped(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(
            f"The body is not valid JSON: {str(error)[:_SHOWN_CHARS]}", code="invalid_json"
        ) from None


def _mistyped(told: str) -> ApiError:
    """Name the field msgspec complains about, and say why if it is one others serve."""
    if unknown := _UNKNOWN_FIELD.match(told):
        field, parent = unknown[1][:_SHOWN_CHARS], unknown[2]
        path = f"{parent[:_SHOWN_CHARS]}.{field}" if parent else field
        if reason := _UNSUPPORTED.get(field):
            return invalid(f"{path}: {reason}", param=path, code="unsupported_parameter")
        return invalid(f"Unknown parameter: '{path}'.", param=path, code="unknown_parameter")
    if missing := _MISSING_FIELD.match(told):
        path = f"{missing[2]}.{missing[1]}" if missing[2] else missing[1]
        return invalid(
            f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
        )
    at = _AT.search(told)
    path = at[1][:_SHOWN_CHARS] if at else ""
    if path.endswith("].type"):
        return invalid(
            "Only content parts of type 'text' are served.", param=path, code="unsupported_content"
        )
    reason = (told[: at.start()] if at else told)[:_SHOWN_CHARS]
    return invalid(
        f"Invalid value for '{path or 'body'}': {reason}.", param=path or None, code="invalid_type"
    )


def _message(index: int, message: ChatMessageBody) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(
            f"messages[{index}].role must be one of {', '.join(_ROLES)}.",
            param=f"messages[{index}].role",
        )
    content = message.content
    return Message(role, content if isinstance(content, str) else _joined(content))


def _joined(parts: list[TextPart]) -> str:
    return "\n".join(part.text for part in parts)


def _prompts(
    prompt: str | list[str | int | list[int]], caps: Caps
) -> tuple[str | tuple[int, ...], ...]:
    """One prompt or several; a flat list of ids is one prompt, as in OpenAI's API."""
    if isinstance(prompt, str):
        return (prompt,)
    texts = tuple(item for item in prompt if isinstance(item, str))
    ids = tuple(item for item in prompt if isinstance(item, int))
    lists = tuple(tuple(item) for item in prompt if isinstance(item, list))
    if not prompt or len(prompt) not in (len(texts), len(ids), len(lists)):
        raise invalid(
            "prompt must be a string, a list of strings, a list of token ids, or a list of lists"
            " of token ids; not empty, not mixed.",
            param="prompt",
        )
    for tokens in (ids, *lists):
        if any(not 0 <= token < caps.vocab_size for token in tokens):
            raise invalid(f"Token ids must be below {caps.vocab_size}.", param="prompt")
    return (ids,) if ids else (*texts, *lists)


def _options(
    asked: ChatBody | CompletionBody, max_tokens: int | None, prompts: int, caps: Caps
) -> Options:
    n = 1 if asked.n is None else asked.n
    if not (n >= 1 and n * prompts <= caps.max_choices):
        raise invalid(
            f"n must be at least 1, and n times the number of prompts at most {caps.max_choices}.",
            param="n",
        )
    best_of = n if asked.best_of is None else asked.best_of
    if not (n <= best_of <= caps.max_best_of or best_of == n) or best_of % n:
        raise invalid(
            f"best_of must be a multiple of n and at most {caps.max_best_of}.", param="best_of"
        )
    if max_tokens is not None and not 1 <= max_tokens <= caps.max_tokens:
        raise invalid(
            f"max_tokens must be between 1 and {caps.max_tokens}.",
            param="max_tokens",
        )
    if asked.seed is not None and not -(2**63) <= asked.seed < 2**63:
        raise invalid("seed must fit 64 bits, signed.", param="seed")
    if asked.user is not None and len(asked.user) > 256:
        raise invalid("user must be at most 256 characters.", param="user")
    if asked.prompt_cache_key is not None and len(asked.prompt_cache_key) > 256:
        raise invalid("prompt_cache_key must be at most 256 characters.", param="prompt_cache_key")
    if not caps.reasoning and (asked.reasoning or asked.reasoning_ref is not None):
        raise invalid("This model does not reason inside.", param="reasoning")
    if asked.reasoning_ref is not None and not _REFERENCE.fullmatch(asked.reasoning_ref):
        raise invalid("reasoning_ref must be an id from an earlier answer.", param="reasoning_ref")
    stream = bool(asked.stream)
    if asked.stream_options is not None and not stream:
        raise invalid("stream_options needs stream to be true.", param="stream_options")
    return Options(
        model=asked.model,
        params=_params(asked, caps),
        max_tokens=max_tokens,
        stop=_stop(asked.stop, caps),
        ignore_eos=bool(asked.ignore_eos),
        n=n,
        candidates=best_of // n,
        seed=asked.seed,
        stream=stream,
        include_usage=asked.stream_options is not None and bool(asked.stream_options.include_usage),
        user=asked.user,
        session=asked.prompt_cache_key or "",
        reasoning=bool(asked.reasoning),
        reasoning_ref=asked.reasoning_ref,
    )


def _params(asked: ChatBody | CompletionBody, caps: Caps) -> SamplingParams:
    if asked.top_k is not None and asked.top_k > caps.vocab_size:
        raise invalid(f"top_k must be at most {caps.vocab_size}.", param="top_k")
    try:
        return SamplingParams(
            temperature=_number(asked.temperature, 1.0),
            top_k=0 if asked.top_k is None or asked.top_k == -1 else asked.top_k,
            top_p=_number(asked.top_p, 1.0),
            min_p=_number(asked.min_p, 0.0),
            presence_penalty=_number(asked.presence_penalty, 0.0),
            frequency_penalty=_number(asked.frequency_penalty, 0.0),
            repetition_penalty=_number(asked.repetition_penalty, 1.0),
            logit_bias=_biases(asked.logit_bias or {}, caps),
        )
    except InvalidParamsError as error:
        raise invalid(f"{error.message}.", param=str(error.details["parameter"])) from None


def _number(value: float | None, default: float) -> float:
    """The value; -0.0 becomes 0.0, since equal parameters must have one canonical encoding."""
    return default if value is None else value + 0.0


def _biases(asked: dict[str, float], caps: Caps) -> tuple[tuple[int, float], ...]:
    if len(asked) > caps.max_biases:
        raise invalid(f"logit_bias may name at most {caps.max_biases} tokens.", param="logit_bias")
    biases = []
    for key, bias in asked.items():
        if not re.fullmatch(r"0|[1-9][0-9]{0,9}", key) or int(key) >= caps.vocab_size:
            raise invalid(
                f"logit_bias keys must be token ids below {caps.vocab_size}.", param="logit_bias"
            )
        biases.append((int(key), _number(bias, 0.0)))
    return tuple(sorted(biases))


def _stop(asked: str | list[str] | None, caps: Caps) -> tuple[str, ...]:
    stop = () if asked is None else (asked,) if isinstance(asked, str) else tuple(asked)
    if len(stop) > 4:
        raise invalid("stop may hold at most 4 strings.", param="stop")
    if any(not 1 <= len(text) <= caps.max_stop_chars for text in stop):
        raise invalid(
            f"Each stop string must hold 1 to {caps.max_stop_chars} characters.", param="stop"
        )
    return stop
