"""What is asked reaches the engine; what may not be asked is refused in OpenAI's shape."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tidegate.errors import BudgetExceededError, LedgerError, ModelError, TidegateError
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.jobs import Job
from tidegate.units import Seconds

CHAT = "/v1/chat/completions"


async def test_a_request_becomes_one_job_a_choice(make_site: Any) -> None:
    site = make_site()
    await site.post(
        n=2, seed=7, temperature=0.5, stop="x", max_tokens=9, best_of=4, reasoning_ref="0" * 32
    )
    expected = [
        Job(
            request_id="id1",
            choice=choice,
            principal="alice",
            prompt_ids=tuple(b"hello"),
            params=SamplingParams(temperature=0.5),
            limits=Limits(max_tokens=9, stop=("x",)),
            user_seed=7,
            candidates=2,
            reasoning_ref="0" * 32,
        )
        for choice in range(2)
    ]
    assert site.engine.jobs == expected


async def test_an_answer_may_fill_what_the_prompt_leaves(make_site: Any) -> None:
    site = make_site(max_tokens=10_000)
    await site.post()
    assert site.engine.jobs[0].limits.max_tokens == 200 - len("hello")


async def test_several_prompts_are_numbered_as_openai_numbers_them(make_site: Any) -> None:
    site = make_site()
    reply = await site.post("/v1/completions", prompt=["a", "bc"], n=2)
    assert [bytes(job.prompt_ids) for job in site.engine.jobs] == [b"a", b"a", b"bc", b"bc"]
    assert [choice["index"] for choice in reply.json["choices"]] == [0, 1, 2, 3]
    assert reply.json["usage"]["prompt_tokens"] == 3


async def test_the_models_list_names_the_one_model(make_site: Any) -> None:
    caller = make_site().caller
    model = {"id": "org/model", "object": "model", "created": 1_600_000_000, "owned_by": "tidegate"}
    assert (await caller()("GET", "/v1/models")).json == {"object": "list", "data": [model]}
    assert (await caller()("GET", "/v1/models/org/model")).json == model
    other = await caller()("GET", "/v1/models/other")
    assert (other.status, other.error["code"]) == (404, "model_not_found")


async def test_health_follows_the_engine_and_needs_no_key(make_site: Any) -> None:
    site = make_site()
    assert (await site.caller()("GET", "/health", key=None)).json == {"status": "ok"}
    site.engine.well = False
    assert (await site.caller()("GET", "/health", key=None)).status == 503


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "unknown_url"),
        ("POST", "/v1/embeddings", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/", 404, "unknown_url"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models/org/model", 405, "method_not_allowed"),
    ],
)
async def test_everything_else_is_refused(
    make_site: Any, method: str, path: str, status: int, code: str
) -> None:
    reply = await make_site().caller()(method, path)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert ("allow" in reply.headers) == (status == 405)


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (None, ()),
        ("wrong", ()),
        ("", ()),
        (None, (("authorization", "Basic key-of-alice"),)),
        (None, (("authorization", "key-of-alice"),)),
        ("key-of-alice", (("authorization", "Bearer key-of-bob"),)),
        ("x" * 100_000, ()),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/models", "/v1/models/org/model"])
async def test_without_one_valid_key_nothing_is_served(
    make_site: Any, key: str | None, headers: Any, path: str
) -> None:
    site = make_site()
    method = "POST" if "completions" in path else "GET"
    reply = await site.caller()(method, path, b"not read", key=key, headers=headers)
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert site.engine.jobs == []


async def test_a_key_does_only_what_its_scopes_say(make_site: Any) -> None:
    caller = make_site().caller
    assert (await caller()("GET", "/v1/models", key="key-of-scraper")).status == 403
    assert (await caller()("GET", "/metrics", key="key-of-alice")).status == 403
    assert (await caller()("GET", "/metrics", key="key-of-scraper")).status == 200


async def test_the_public_demo_key_works_from_the_same_host_only(make_site: Any) -> None:
    caller = make_site().caller
    for host, status in (("127.0.0.1", 200), ("::1", 200), ("203.0.113.9", 401), ("", 401)):
        reply = await caller()("GET", "/v1/models", key="demo", host=host)
        assert reply.status == status


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("content-type", "text/plain"),),
        (("content-type", "application/json"), ("content-encoding", "gzip")),
    ],
)
async def test_only_plain_json_is_read(make_site: Any, headers: Any) -> None:
    reply = await make_site().caller()("POST", CHAT, b"{}", headers=headers)
    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("length", ["101", "-1", "1e9", "٣"])
async def test_a_large_or_false_length_is_refused_unread(make_site: Any, length: str) -> None:
    headers = (("content-type", "application/json"), ("content-length", length))
    reply = await make_site(max_body=100).caller()("POST", CHAT, headers=headers)
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


async def test_a_body_without_a_length_is_cut_off_at_the_limit(make_site: Any) -> None:
    site = make_site(max_body=100)
    reply = await site.caller()("POST", CHAT, chunks=[b"{" * 60, b"{" * 60, b"{" * 60])
    assert reply.status == 413


async def test_a_body_that_never_ends_is_given_up(make_site: Any) -> None:
    caller = make_site(body_timeout=Seconds(0.01)).caller()
    stall = asyncio.Event()

    async def hold(scope: Any, _receive: Any, send: Any) -> None:
        await site_app(scope, stall.wait, send)

    site_app, caller.app = caller.app, hold
    reply = await caller("POST", CHAT)
    assert (reply.status, reply.error["code"]) == (408, "request_timeout")


async def test_an_over_long_prompt_is_named_as_openai_names_it(make_site: Any) -> None:
    reply = await make_site().post(messages=[{"role": "user", "content": "x" * 300}])
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "gpt-4"}, 404, "model_not_found"),
        ({"frobnicate": 1}, 400, "unknown_parameter"),
        ({"tools": []}, 400, "unsupported_parameter"),
        ({"logprobs": True}, 400, "unsupported_parameter"),
        ({"n": 5}, 400, "invalid_value"),
        ({"n": "2"}, 400, "invalid_type"),
    ],
)
async def test_bad_requests_reach_no_engine(
    make_site: Any, fields: dict[str, Any], status: int, code: str
) -> None:
    site = make_site()
    reply = await site.post(**fields)
    assert (reply.status, reply.error["code"], site.engine.jobs) == (status, code, [])


async def test_messages_a_template_refuses_are_the_clients_mistake(make_site: Any) -> None:
    class Strict:
        def chat(self, _messages: Any) -> list[int]:
            raise ModelError("roles must alternate")

    reply = await make_site(tokenizer=Strict()).post()
    assert (reply.status, reply.error["param"]) == (400, "messages")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_spent_budget_is_429_and_not_to_be_retried(make_site: Any, stream: bool) -> None:
    site = make_site([BudgetExceededError("spent", retry_after_s=90.5)])
    reply = await site.post(stream=stream)
    assert (reply.status, reply.error["code"]) == (429, "upload_budget_exceeded")
    assert (reply.headers["x-should-retry"], reply.headers["retry-after"]) == ("false", "91")


class BusyError(TidegateError):
    code = "overloaded"


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (BusyError("full"), 503, None),
        (LedgerError("disk full"), 503, "false"),
        (ValueError("a bug"), 500, "false"),
        (asyncio.CancelledError(), 500, "false"),
    ],
)
async def test_failures_of_the_engine_have_statuses(
    make_site: Any, error: BaseException, status: int, retry: str | None
) -> None:
    reply = await make_site([error]).post()
    assert (reply.status, reply.headers.get("x-should-retry")) == (status, retry)
    assert reply.error["type"] == "server_error"


async def test_an_unhealthy_engine_is_asked_nothing(make_site: Any) -> None:
    site = make_site()
    site.engine.well = False
    reply = await site.post()
    assert (reply.status, reply.headers["retry-after"], site.engine.jobs) == (503, "1", [])


async def test_one_principals_open_streams_do_not_bar_another(make_site: Any, say: Any) -> None:
    gate = asyncio.Event()
    site = make_site([gate, *say("hi")], streams_per_principal=2)
    first = asyncio.create_task(site.post(n=2))
    while len(site.engine.jobs) < 2:
        await asyncio.sleep(0)
    barred = await site.post()
    assert (barred.status, barred.error["code"]) == (429, "rate_limit_exceeded")
    assert "x-should-retry" not in barred.headers
    gate.set()
    bob = await site.caller()(
        "POST", CHAT, b'{"model":"org/model","messages":[]}', key="key-of-bob"
    )
    assert bob.status == 400
    assert (await first).status == 200
    assert (await site.post()).status == 200


async def test_all_open_streams_together_are_bounded(make_site: Any, say: Any) -> None:
    gate = asyncio.Event()
    site = make_site([gate, *say("hi")], streams=2)
    first = asyncio.create_task(site.post(n=2))
    while len(site.engine.jobs) < 2:
        await asyncio.sleep(0)
    barred = await site.post()
    assert (barred.status, barred.headers["retry-after"]) == (503, "1")
    gate.set()
    await first
