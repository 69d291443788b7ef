"""Request bodies as they are on the wire. Types only; meaning and bounds are in `requests`.

A field that is not listed here is refused, so that nobody believes an ignored setting was obeyed.
"""

from __future__ import annotations

import msgspec


class TextPart(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"
):
    """`{"type": "text", "text": ...}`, the only content part that is understood."""

    text: str


class ChatMessageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn."""

    role: str
    content: str | list[TextPart]


class StreamOptionsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stream_options`."""

    include_usage: bool | None = None


class _CommonBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: str
    n: int | None = None
    best_of: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    ignore_eos: bool | None = None
    reasoning: bool | None = None
    reasoning_ref: str | None = None


class ChatBody(_CommonBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessageBody]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class CompletionBody(_CommonBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: int | None = None
