"""Invariant: any bytes are a well-formed OpenAI error or a valid request, never anything else."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.openai_api.errors import ApiError
from tidegate.openai_api.requests import (
    Caps,
    ChatRequest,
    CompletionRequest,
    Options,
    parse_chat,
    parse_completion,
)
from tidegate.openai_api.schema import ChatBody, CompletionBody

CAPS = Caps(
    context_length=100,
    vocab_size=1000,
    max_tokens=50,
    max_choices=4,
    max_best_of=8,
    reasoning=True,
)

NAMES = sorted({*ChatBody.__struct_fields__, *CompletionBody.__struct_fields__, "tools", "x", "`"})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["m", "user", "text", "7", 0, 1, 2, -1, 10**30])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "7"]) | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
VALID = {
    "model": "m",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    "prompt": [[1, 2]],
}


@st.composite
def near_misses(draw: st.DrawFn) -> bytes:
    """Requests of the right form with some members replaced, and perhaps some bytes."""
    endpoint = draw(st.sampled_from(["messages", "prompt"]))
    body = {"model": "m", endpoint: VALID[endpoint]}
    body |= draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
    raw = bytearray(json.dumps(body).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 2))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


def check_options(options: Options, prompts: int) -> None:
    assert options.n >= 1
    assert options.n * prompts <= CAPS.max_choices
    assert options.candidates == 1 or options.n * options.candidates <= CAPS.max_best_of
    assert options.max_tokens is None or 1 <= options.max_tokens <= CAPS.max_tokens
    assert len(options.stop) <= 4
    options.params.canonical()


def check(parsed: ChatRequest | CompletionRequest) -> None:
    if isinstance(parsed, ChatRequest):
        check_options(parsed.options, 1)
        for message in parsed.messages:
            message.content.encode()  # a lone surrogate would stop the tokenizer
        return
    check_options(parsed.options, len(parsed.prompts))
    for prompt in parsed.prompts:
        if isinstance(prompt, str):
            prompt.encode()
        else:
            assert all(0 <= token < CAPS.vocab_size for token in prompt)


def check_error(error: ApiError) -> None:
    body: dict[str, Any] = json.loads(error.body())
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    assert 400 <= error.status < 500
    assert len(error.body()) < 10_000


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | near_misses())
@example(b'{"model":"m","messages":' + b"[" * 100_000)
@example(b'{"model":"m","prompt":' + b"[" * 100_000)
@example(b'{"x":' + b'{"x":' * 100_000)
@example(b'{"model":"\\ud800","prompt":"a"}')
@example(b'{"model":"m","prompt":"a","seed":1' + b"0" * 10_000 + b"}")
@example(b'{"model":"m","prompt":"a","temperature":1e999}')
@example(b'{"model":"m","prompt":"a","logit_bias":{"' + "٣".encode() + b'":1}}')
def test_any_bytes_parse_or_are_refused_in_openai_form(body: bytes) -> None:
    for parse in (parse_chat, parse_completion):
        try:
            check(parse(body, CAPS))
        except ApiError as error:
            check_error(error)
