from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tidegate.openai_api.errors import ApiError
from tidegate.openai_api.requests import Caps, Message, fit, parse_chat, parse_completion
from tidegate.sampling.params import SamplingParams

CAPS = Caps(
    context_length=100,
    vocab_size=1000,
    max_tokens=50,
    max_choices=4,
    max_best_of=8,
    reasoning=True,
)
REFERENCE = "0123456789abcdef" * 2
HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": HELLO, **fields}).encode()


def completion(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "hello", **fields}).encode()


def refusal(body: bytes) -> ApiError:
    parse = parse_completion if b'"prompt"' in body else parse_chat
    with pytest.raises(ApiError) as caught:
        parse(body, CAPS)
    return caught.value


def test_every_served_option_reaches_the_request() -> None:
    options = parse_chat(
        chat(
            n=2,
            best_of=4,
            seed=7,
            stop=["a", "b"],
            logit_bias={"9": 1, "3": -2.5},
            max_completion_tokens=20,
            temperature=0.7,
            top_p=0.9,
            top_k=40,
            min_p=0.1,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            repetition_penalty=1.1,
            stream=True,
            stream_options={"include_usage": True},
            user="u",
            ignore_eos=True,
            reasoning=True,
            reasoning_ref=REFERENCE,
        ),
        CAPS,
    ).options
    assert options.params == SamplingParams(
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        logit_bias=((3, -2.5), (9, 1.0)),
    )
    assert (options.n, options.candidates, options.seed, options.user) == (2, 2, 7, "u")
    assert (options.stop, options.max_tokens, options.ignore_eos) == (("a", "b"), 20, True)
    assert (options.stream, options.include_usage) == (True, True)
    assert (options.reasoning, options.reasoning_ref) == (True, REFERENCE)


def test_defaults_and_nulls_are_the_plain_law() -> None:
    nulls = dict.fromkeys(("n", "seed", "stop", "temperature", "logit_bias", "max_tokens", "top_k"))
    for body in (chat(), chat(**nulls)):
        options = parse_chat(body, CAPS).options
        assert options.params == SamplingParams()
        assert (options.n, options.candidates, options.max_tokens) == (1, 1, None)
    assert parse_completion(completion(), CAPS).options.max_tokens == 16


def test_parts_and_roles_become_plain_messages() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = parse_chat(
        chat(
            messages=[
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": parts},
            ]
        ),
        CAPS,
    )
    assert request.messages == (Message("system", "be brief"), Message("user", "a\nb"))


@pytest.mark.parametrize(
    ("prompt", "parsed"),
    [
        ("hi", ("hi",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_each_form_of_prompt_is_understood(prompt: Any, parsed: Any) -> None:
    assert parse_completion(completion(prompt=prompt), CAPS).prompts == parsed


@pytest.mark.parametrize("prompt", [[], ["a", 1], [1, [2]], [1000], [-1], [[1000]], [True]])
def test_mixed_empty_or_foreign_prompts_are_refused(prompt: Any) -> None:
    assert refusal(completion(prompt=prompt)).error.param in {"prompt", "prompt[0]"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"frobnicate": 1}, "frobnicate", "unknown_parameter"),
        ({"tools": []}, "tools", "unsupported_parameter"),
        ({"functions": []}, "functions", "unsupported_parameter"),
        ({"response_format": {"type": "text"}}, "response_format", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"top_logprobs": 0}, "logprobs", "unsupported_parameter"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"n": True}, "n", "invalid_type"),
        ({"stream": 1}, "stream", "invalid_type"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"top_k": 1001}, "top_k", "invalid_value"),
        ({"min_p": 1.1}, "min_p", "invalid_value"),
        ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
        ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 5}, "n", "invalid_value"),
        ({"best_of": 9}, "best_of", "invalid_value"),
        ({"n": 2, "best_of": 1}, "best_of", "invalid_value"),
        ({"n": 2, "best_of": 3}, "best_of", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"seed": 10**30}, "seed", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 51}, "max_tokens", "invalid_value"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens", "invalid_value"),
        ({"stop": list("abcde")}, "stop", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": "x" * 257}, "stop", "invalid_value"),
        ({"logit_bias": {"1000": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"01": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"hello": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "invalid_value"),
        ({"user": "x" * 257}, "user", "invalid_value"),
        ({"reasoning_ref": "../../etc"}, "reasoning_ref", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "tool", "content": ""}]}, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": "", "name": "x"}]},
            "messages[0].name",
            "unknown_parameter",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
            "unsupported_content",
        ),
    ],
)
def test_bad_chat_fields_are_named(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal(chat(**fields))
    assert (error.status, error.error.param, error.error.code) == (400, param, code)


def test_refused_logprobs_say_why() -> None:
    for body in (chat(logprobs=True), completion(logprobs=0)):
        assert "upload link" in refusal(body).error.message


@pytest.mark.parametrize("fields", [{"echo": True}, {"suffix": "x"}, {"logprobs": 1}])
def test_what_completions_do_not_serve_is_refused(fields: dict[str, Any]) -> None:
    assert refusal(completion(**fields)).error.code == "unsupported_parameter"


def test_prompts_times_n_are_bounded_together() -> None:
    assert refusal(completion(prompt=["a", "b", "c"], n=2)).error.param == "n"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"model":"\xff"}', b"nul", chat() + b"x"])
def test_what_is_not_json_is_called_so(body: bytes) -> None:
    assert refusal(body).error.code == "invalid_json"


def test_a_huge_field_name_is_not_repeated_in_full() -> None:
    assert len(refusal(chat(**{"x" * 10_000: 1})).body()) < 2_000


def test_equal_parameters_have_one_encoding() -> None:
    zero, minus = (parse_chat(chat(temperature=t), CAPS).options.params for t in (0.0, -0.0))
    assert zero.canonical() == minus.canonical()


@pytest.mark.parametrize(
    ("prompt", "asked", "given"), [(10, None, 50), (80, None, 20), (99, 1, 1), (50, 50, 50)]
)
def test_an_answer_that_fits_is_granted(prompt: int, asked: int | None, given: int) -> None:
    assert fit(prompt, asked, CAPS) == given


@pytest.mark.parametrize(("prompt", "asked"), [(100, None), (5000, 1), (60, 41)])
def test_an_over_long_prompt_is_refused(prompt: int, asked: int | None) -> None:
    with pytest.raises(ApiError) as caught:
        fit(prompt, asked, CAPS)
    assert (caught.value.status, caught.value.error.code) == (400, "context_length_exceeded")


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(ApiError, match="no tokens"):
        fit(0, 1, CAPS)


@pytest.mark.parametrize("fields", [{"reasoning": True}, {"reasoning_ref": REFERENCE}])
def test_reasoning_is_refused_where_the_model_does_not_reason(fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        parse_chat(chat(**fields), replace(CAPS, reasoning=False))
    assert refused.value.status == 400
