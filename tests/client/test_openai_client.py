"""What users rely on: the official client keeps working, and stops where it should."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tidegate.errors import BudgetExceededError, NonCanonicalError, TidegateError

ASK: Any = {"model": "m", "messages": [{"role": "user", "content": "say four words"}]}


async def test_a_chat_answer(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        answer = await client.chat.completions.create(**ASK)
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", "sea0 tide0 gate0 lock0 ")
    assert choice.finish_reason == "stop"
    assert (answer.id.startswith("chatcmpl-"), answer.model) == (True, "m")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 4)
    assert answer.usage.model_extra == {"tidegate": {"bits": 12}}
    assert answer.id.endswith(answer._request_id)


async def test_a_chat_stream_with_choices_and_usage(serve: Any, engine: Any) -> None:
    texts, reasons, usage = {0: "", 1: ""}, {}, None
    async with serve(engine) as client:
        stream = await client.chat.completions.create(
            **ASK, n=2, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                reasons[choice.index] = choice.finish_reason
    assert texts == {0: "sea0 tide0 gate0 lock0 ", 1: "sea1 tide1 gate1 lock1 "}
    assert reasons == {0: "stop", 1: "stop"}
    assert usage is not None
    assert (usage.completion_tokens, usage.model_extra) == (8, {"tidegate": {"bits": 24}})


async def test_the_clients_own_accumulator_understands_the_stream(serve: Any, engine: Any) -> None:
    async with serve(engine) as client, client.chat.completions.stream(**ASK) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "sea0 tide0 gate0 lock0 "


async def test_an_answers_message_can_be_sent_back(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        answer = await client.chat.completions.create(**ASK)
        turns = [*ASK["messages"], answer.choices[0].message, ASK["messages"][0]]
        await client.chat.completions.create(model="m", messages=turns)
    assert len(engine.jobs[1].prompt_ids) == 10


async def test_completions_whole_and_streamed(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        whole = await client.completions.create(model="m", prompt=["a b", "c"], n=1)
        stream = await client.completions.create(model="m", prompt="a b", stream=True)
        chunks = [chunk async for chunk in stream]
    assert [choice.text[:4] for choice in whole.choices] == ["sea0", "sea1"]
    assert whole.usage.prompt_tokens == 3
    assert "".join(chunk.choices[0].text for chunk in chunks) == "sea0 tide0 gate0 lock0 "
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_stop_and_max_tokens_end_an_answer(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        stopped = await client.chat.completions.create(**ASK, stop=["gate"])
        cut = await client.chat.completions.create(**ASK, max_completion_tokens=1)
    assert stopped.choices[0].message.content == "sea0 tide0 "
    assert stopped.choices[0].finish_reason == "stop"
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("sea0 ", "length")


async def test_kept_reasoning_is_named_and_referred_to(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        answer = await client.chat.completions.create(**ASK, extra_body={"reasoning": True})
        ref = answer.choices[0].model_extra["reasoning_ref"]
        await client.chat.completions.create(**ASK, extra_body={"reasoning_ref": ref})
    assert engine.jobs[1].reasoning_ref == ref == "0123456789abcdef" * 2


async def test_models_are_listed_and_found(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        listed = [model.id async for model in client.models.list()]
        assert listed == [(await client.models.retrieve("m")).id] == ["m"]
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found"),
        ({"logprobs": True}, openai.BadRequestError, "unsupported_parameter"),
        ({"tools": []}, openai.BadRequestError, "unsupported_parameter"),
        ({"n": 99}, openai.BadRequestError, "invalid_value"),
        ({"max_tokens": 99}, openai.BadRequestError, "context_length_exceeded"),
    ],
)
async def test_refusals_are_the_clients_own_errors(
    serve: Any, engine: Any, fields: Any, error: type[openai.APIStatusError], code: str
) -> None:
    async with serve(engine) as client:
        with pytest.raises(error) as caught:
            await client.chat.completions.create(**{**ASK, **fields})
    assert caught.value.code == code
    assert engine.jobs == []


async def test_a_wrong_key_is_an_authentication_error(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").chat.completions.create(**ASK)


async def test_a_body_over_the_limit_is_refused_whole(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.completions.create(model="m", prompt="x" * (1 << 18))
        assert caught.value.status_code == 413
        assert await client.chat.completions.create(**ASK)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_spent_budget_is_not_retried(serve: Any, engine: Any, stream: bool) -> None:
    engine.fails = BudgetExceededError("spent")
    async with serve(engine) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**ASK, stream=stream)
        assert caught.value.code == "upload_budget_exceeded"
        assert len(engine.jobs) == 1
        engine.fails = None
        assert await client.chat.completions.create(**ASK)


async def test_a_passing_overload_is_retried(serve: Any, engine: Any) -> None:
    class BusyError(TidegateError):
        code = "overloaded"

    engine.fails = BusyError("full")
    async with serve(engine) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.with_options(max_retries=1).chat.completions.create(**ASK)
    assert (caught.value.status_code, len(engine.jobs)) == (503, 2)


async def test_a_broken_link_ends_a_stream_with_the_clients_error(serve: Any, engine: Any) -> None:
    engine.fails, engine.fails_late, engine.gate = NonCanonicalError("no"), True, asyncio.Event()
    said = []

    async def read(stream: Any) -> None:
        async for chunk in stream:
            said.append(chunk.choices[0].delta.content or "")
            engine.gate.set()

    async with serve(engine) as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(openai.APIError) as caught:
            await read(stream)
    assert "".join(said).startswith("sea0 ")
    assert caught.value.code == "link_error"


async def test_a_client_that_hangs_up_cancels_its_streams(serve: Any, engine: Any) -> None:
    engine.gate = asyncio.Event()
    async with serve(engine) as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        await anext(aiter(stream))
        assert not engine.closed.is_set()
        await stream.close()
        await asyncio.wait_for(engine.closed.wait(), 20)


async def test_thirty_clients_at_once_are_all_answered(serve: Any, engine: Any) -> None:
    async with serve(engine) as client:
        asks = [client.chat.completions.create(**ASK, seed=seed) for seed in range(30)]
        answers = await asyncio.gather(*asks)
    assert {answer.choices[0].message.content for answer in answers} == {"sea0 tide0 gate0 lock0 "}
    assert len({answer.id for answer in answers}) == 30
    assert {job.user_seed for job in engine.jobs} == set(range(30))
