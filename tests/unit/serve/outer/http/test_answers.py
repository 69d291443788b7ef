"""Answers, whole and streamed: their content, their failures, and readers that misbehave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tidegate.serve.jobs import Delta, Failed
from tidegate.units import Seconds

CHAT = "/v1/chat/completions"
ASK = b'{"model":"org/model","messages":[{"role":"user","content":"hello"}],"stream":true,"n":2}'


async def test_a_whole_answer_gathers_choices_usage_and_bits(make_site: Any, say: Any) -> None:
    site = make_site(say("a", "b", bits=7), say("c", bits=5, reason="length", ref="r-1"))
    reply = await site.post(n=2)
    assert reply.status == 200
    assert (reply.json["id"], reply.json["created"]) == ("chatcmpl-id1", 1_700_000_000)
    assert reply.headers["x-request-id"] == "id1"
    told = [
        (c["message"]["content"], c["finish_reason"], c.get("reasoning_ref"))
        for c in reply.json["choices"]
    ]
    assert told == [("ab", "stop", None), ("c", "length", "r-1")]
    assert reply.json["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "tidegate": {"bits": 12},
    }


async def test_a_stream_opens_tells_and_closes_each_choice(make_site: Any, say: Any) -> None:
    site = make_site(say("a"), say("b"))
    reply = await site.post(n=2, stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = reply.events
    told = [(c["choices"][0]["index"], c["choices"][0]["delta"]) for c in chunks]
    opening = {"role": "assistant", "content": ""}
    assert [delta for index, delta in told if index == 0] == [opening, {"content": "a"}, {}]
    assert [delta for index, delta in told if index == 1] == [opening, {"content": "b"}, {}]
    assert (usage["choices"], usage["usage"]["tidegate"]) == ([], {"bits": 20})
    assert done == "[DONE]"
    assert {chunk["id"] for chunk in (*chunks, usage)} == {"chatcmpl-id1"}


async def test_choices_of_one_stream_interleave(make_site: Any, say: Any) -> None:
    first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
    site = make_site([first, Delta((1,), "a"), third, *say("c")], [second, *say("b")])
    caller = site.caller()
    ask = b'{"model":"org/model","prompt":"hello","stream":true,"n":2}'
    answer = asyncio.create_task(caller("POST", "/v1/completions", ask))
    for sent, gate in ((0, first), (2, second), (3, third)):
        while len(caller.reply.sent) < sent:
            await asyncio.sleep(0)
        gate.set()
    chunks = [chunk["choices"][0] for chunk in (await answer).events[:-1]]
    texts = [(chunk["index"], chunk["text"]) for chunk in chunks if chunk["text"]]
    assert texts == [(0, "a"), (1, "b"), (0, "c")]


async def test_a_late_failure_ends_the_stream_with_an_error_event(make_site: Any) -> None:
    gate = asyncio.Event()
    site = make_site(
        [Delta((1,), "a"), gate, Failed("non_canonical", "frame 9 of link 3")],
        [asyncio.Event()],
    )
    caller = site.caller()
    answer = asyncio.create_task(caller("POST", CHAT, ASK))
    while len(caller.reply.sent) < 2:
        await asyncio.sleep(0)
    gate.set()
    events = (await answer).events
    assert events[-1]["error"]["code"] == "link_error"
    assert "[DONE]" not in events
    assert "frame 9" not in caller.reply.body.decode()
    assert sorted(site.engine.closed) == [("alice", 0), ("alice", 1)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_streams(make_site: Any, stream: bool) -> None:
    site = make_site([Delta((1,), "a"), asyncio.Event()])
    caller = site.caller()
    ask = ASK if stream else ASK.replace(b"true", b"false")
    answer = asyncio.create_task(caller("POST", CHAT, ask))
    while len(site.engine.jobs) < 2:
        await asyncio.sleep(0)
    caller.leave.set()
    await answer
    assert sorted(site.engine.closed) == [("alice", 0), ("alice", 1)]
    line = site.log[-1]
    assert (line["code"], line["event"]) == ("client_gone", "request")


async def test_a_client_that_leaves_before_its_body_ends_is_no_error(make_site: Any) -> None:
    caller = make_site().caller()
    caller.leave.set()
    caller.reply = await caller("POST", CHAT, chunks=[])
    assert caller.reply.sent == []


async def test_a_reader_that_stops_reading_is_cut_off_and_holds_up_nobody(
    make_site: Any, say: Any
) -> None:
    gate = asyncio.Event()
    flood = [Delta((1,), "x" * 50), gate, *(Delta((1,), "x" * 50) for _ in range(10))]
    site = make_site([*flood, asyncio.Event()], max_waiting_chars=200, send_timeout=Seconds(0.05))
    stuck = site.caller()
    stuck.stop_reading.set()
    answer = asyncio.create_task(stuck("POST", CHAT, ASK))
    while not stuck.reply.sent:
        await asyncio.sleep(0)
    gate.set()
    while len(site.engine.closed) < 2:  # both of its streams, while its send still blocks
        await asyncio.sleep(0)
    assert not answer.done()
    site.engine.scripts = [say("fine")]
    assert (await site.post()).status == 200
    await answer
    assert site.log[-1]["code"] == "client_gone"


async def test_a_slow_reader_is_told_why_its_answer_ended(make_site: Any) -> None:
    site = make_site([*(Delta((1,), "x" * 50) for _ in range(10))], max_waiting_chars=200)
    reply = await site.post()
    assert (reply.status, reply.error["code"]) == (503, "slow_reader")
    assert reply.headers["x-should-retry"] == "false"


async def test_an_engine_that_stops_without_an_end_is_a_failure(make_site: Any) -> None:
    reply = await make_site([Delta((1,), "a")]).post()
    assert (reply.status, reply.error["code"]) == (500, "engine_error")


async def test_one_failed_choice_fails_the_request_and_cancels_the_rest(make_site: Any) -> None:
    site = make_site([Failed("engine_error", "no")], [asyncio.Event()])
    assert (await site.post(n=2)).status == 500
    assert len(site.engine.closed) == 2


async def test_answers_leave_at_ticks_of_the_outer_clock(make_site: Any, say: Any) -> None:
    site = make_site(say("a"), chunk_interval=Seconds(0.5))
    site.clock.advance(0.2)
    await site.post()
    assert site.clock.monotonic() == pytest.approx(0.5)
