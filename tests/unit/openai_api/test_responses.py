from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.openai_api.errors import NO_RETRY, invalid, of_failure
from tidegate.openai_api.responses import (
    Answer,
    ChatShape,
    CompletionShape,
    Stamp,
    error_event,
    model_body,
    usage_of,
)
from tidegate.units import Bits

STAMP = Stamp(id="chatcmpl-1", created=1_700_000_000, model="m", fingerprint="fp")
USAGE = usage_of(3, 2, Bits(17))


def data(event: bytes) -> Any:
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    return json.loads(event[6:])


def test_a_whole_chat_answer_is_as_openai_sends_it() -> None:
    body = json.loads(ChatShape(STAMP).whole([Answer(index=0, text="hi", reason="stop")], USAGE))
    assert body == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "system_fingerprint": "fp",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "tidegate": {"bits": 17},
        },
    }


def test_a_whole_completion_names_kept_reasoning() -> None:
    answer = Answer(index=1, text="hi", reason="length", reasoning_ref="r-1")
    choice = json.loads(CompletionShape(STAMP).whole([answer], USAGE))["choices"][0]
    assert (choice["text"], choice["index"], choice["reasoning_ref"]) == ("hi", 1, "r-1")


def test_chat_chunks_open_with_the_role_and_close_with_the_reason() -> None:
    shape = ChatShape(STAMP)
    opening, delta, closing = (
        data(event)["choices"][0]
        for event in (shape.opening(0), shape.delta(0, "hi"), shape.closing(0, "stop", None))
    )
    assert opening["delta"] == {"role": "assistant", "content": ""}
    assert (delta["delta"], delta["finish_reason"]) == ({"content": "hi"}, None)
    assert (closing["delta"], closing["finish_reason"]) == ({}, "stop")


def test_completion_chunks_hold_text() -> None:
    shape = CompletionShape(STAMP)
    assert shape.opening(0) == b""
    assert data(shape.delta(1, "hi"))["choices"][0]["text"] == "hi"
    assert data(shape.closing(1, "length", "r"))["choices"][0]["finish_reason"] == "length"


def test_usage_is_null_until_the_last_chunk_when_asked_for() -> None:
    shape = ChatShape(STAMP, include_usage=True)
    assert data(shape.delta(0, "hi"))["usage"] is None
    last = data(shape.usage(USAGE))
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 5)
    assert "usage" not in data(ChatShape(STAMP).delta(0, "hi"))


@given(st.text())
def test_any_text_survives_a_chunk(text: str) -> None:
    assert data(ChatShape(STAMP).delta(0, text))["choices"][0]["delta"]["content"] == text


def test_an_error_has_all_four_members() -> None:
    expected = {
        "error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "c"}
    }
    error = invalid("no", param="n", code="c")
    assert json.loads(error.body()) == data(error_event(error)) == expected


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("budget_exceeded", 429, "upload_budget_exceeded"),
        ("too_many_streams", 429, "rate_limit_exceeded"),
        ("overloaded", 503, "overloaded"),
        ("ledger_error", 503, "ledger_unavailable"),
        ("ledger_head_moved", 503, "ledger_unavailable"),
        ("non_canonical", 500, "link_error"),
        ("link_closed", 500, "link_error"),
        ("late_frame", 500, "link_error"),
        ("engine_error", 500, "engine_error"),
        ("never heard of", 500, "internal_error"),
    ],
)
def test_failures_map_to_statuses(code: str, status: int, told: str) -> None:
    error = of_failure(code)
    assert (error.status, error.error.code) == (status, told)


def test_a_retry_that_would_spend_budget_is_not_invited() -> None:
    for code in ("budget_exceeded", "link_error", "engine_error", "slow_reader", "never heard of"):
        assert of_failure(code).headers == NO_RETRY


def test_a_model_is_listed_as_openai_lists_it() -> None:
    assert model_body("m", 5, "me") == {
        "id": "m",
        "object": "model",
        "created": 5,
        "owned_by": "me",
    }
