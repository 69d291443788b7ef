"""Response bodies and server-sent events. Ids and timestamps come in as values.

Two shapes, `ChatShape` and `CompletionShape`, offer the same methods, so that one caller serves
both endpoints. `whole` gives a JSON body; `opening`, `delta`, `closing`, `usage` give events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import msgspec

from tidegate.openai_api.errors import ApiError
from tidegate.units import Bits

Object = dict[str, object]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What every object of one answer repeats. `created` is in Unix seconds."""

    id: str
    created: int
    model: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One finished choice. `reasoning_ref` names reasoning that stayed inside."""

    index: int
    text: str
    reason: str
    reasoning_ref: str | None = None


class Charge(msgspec.Struct, frozen=True):
    """Extension of `usage`: bits charged to the upload budget for this answer, padding included."""

    bits: Bits


class Usage(msgspec.Struct, frozen=True):
    """Token counts, taken outside from the prompt and the decoded answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    tidegate: Charge


def usage_of(prompt_tokens: int, completion_tokens: int, bits: Bits) -> Usage:
    """Usage with its total."""
    return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens, Charge(bits))


class Shape(Protocol):
    """How one endpoint dresses an answer."""

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """The JSON body of an answer that is not streamed."""
        ...

    def opening(self, index: int) -> bytes:
        """The event before a choice's first text; may be empty."""
        ...

    def delta(self, index: int, text: str) -> bytes:
        """An event with more text of a choice."""
        ...

    def closing(self, index: int, reason: str, reasoning_ref: str | None) -> bytes:
        """The event that ends a choice."""
        ...

    def usage(self, usage: Usage) -> bytes:
        """The event with no choices that OpenAI sends for `include_usage`."""
        ...


class _Events:
    """What both shapes share: each event is an object with the stamp and some choices."""

    kind: ClassVar[str]

    def __init__(self, stamp: Stamp, *, include_usage: bool = False) -> None:
        self._stamp = stamp
        self._include_usage = include_usage

    def usage(self, usage: Usage) -> bytes:
        return self._event([], usage)

    def _event(self, choices: list[Object], usage: Usage | None = None) -> bytes:
        extra = {"usage": usage} if self._include_usage else {}
        return event(_body(self._stamp, self.kind, choices, **extra))


class ChatShape(_Events):
    """`chat.completion` and `chat.completion.chunk`."""

    kind = "chat.completion.chunk"

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        choices = [
            _choice(a.index, a.reason, a.reasoning_ref, message=_turn(a.text)) for a in answers
        ]
        return _body(self._stamp, "chat.completion", choices, usage=usage)

    def opening(self, index: int) -> bytes:
        return self._event([_choice(index, delta=_turn(""))])

    def delta(self, index: int, text: str) -> bytes:
        return self._event([_choice(index, delta={"content": text})])

    def closing(self, index: int, reason: str, reasoning_ref: str | None) -> bytes:
        return self._event([_choice(index, reason, reasoning_ref, delta={})])


class CompletionShape(_Events):
    """`text_completion`, whole or in chunks."""

    kind = "text_completion"

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        choices = [_choice(a.index, a.reason, a.reasoning_ref, text=a.text) for a in answers]
        return _body(self._stamp, self.kind, choices, usage=usage)

    def opening(self, index: int) -> bytes:
        return b""

    def delta(self, index: int, text: str) -> bytes:
        return self._event([_choice(index, text=text)])

    def closing(self, index: int, reason: str, reasoning_ref: str | None) -> bytes:
        return self._event([_choice(index, reason, reasoning_ref, text="")])


def event(body: bytes) -> bytes:
    """One server-sent event. JSON from msgspec holds no line break, so one `data` line suffices."""
    return b"data: " + body + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """The event that ends a stream which failed after it began; nothing follows it."""
    return event(error.body())


def model_body(model: str, created: int, owner: str) -> Object:
    """`GET /v1/models/{id}`, as an object."""
    return {"id": model, "object": "model", "created": created, "owned_by": owner}


def _body(stamp: Stamp, kind: str, choices: list[Object], **extra: Usage | None) -> bytes:
    return msgspec.json.encode(
        {
            "id": stamp.id,
            "object": kind,
            "created": stamp.created,
            "model": stamp.model,
            "system_fingerprint": stamp.fingerprint,
            "choices": choices,
            **extra,
        }
    )


def _turn(text: str) -> Object:
    return {"role": "assistant", "content": text}


def _choice(
    index: int, reason: str | None = None, reasoning_ref: str | None = None, **content: object
) -> Object:
    reference = {} if reasoning_ref is None else {"reasoning_ref": reasoning_ref}
    return {
        "index": index,
        **content,
        "logprobs": None,
        "finish_reason": reason,
        **reference,
    }
