"""The demo's client: the official OpenAI library, streaming, several requests at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.bench.prompts import Prompt
from tidegate.cli.half_outer import DEMO_KEY
from tidegate.errors import TidegateError

if TYPE_CHECKING:
    from openai import AsyncOpenAI


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the client got."""

    prompt: Prompt
    temperature: float
    request_id: str
    text: str
    seconds: float
    first_token_seconds: float


async def ask_all(
    url: str,
    model: str,
    asked: Sequence[tuple[Prompt, float]],
    *,
    max_tokens: int,
    concurrency: int,
    progress: Callable[[int], None],
) -> list[Reply]:
    """Ask everything, at most `concurrency` at a time. Raises TidegateError if a request fails."""
    # Imported here: a client's library, which nothing but the demonstrations needs.
    from openai import AsyncOpenAI, OpenAIError

    gate = asyncio.Semaphore(concurrency)
    done = 0

    async def one(prompt: Prompt, temperature: float) -> Reply:
        nonlocal done
        async with gate:
            reply = await _ask(client, model, prompt, temperature, max_tokens)
        done += 1
        progress(done)
        return reply

    progress(0)
    try:
        async with (
            AsyncOpenAI(base_url=url, api_key=DEMO_KEY, max_retries=0, timeout=600) as client,
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(one(*pair)) for pair in asked]
    except* OpenAIError as errors:
        raise TidegateError(f"a request failed: {errors.exceptions[0]}") from errors
    return [task.result() for task in tasks]


async def _ask(
    client: AsyncOpenAI, model: str, prompt: Prompt, temperature: float, max_tokens: int
) -> Reply:
    start = time.monotonic()
    first: float | None = None
    text, request_id = "", ""
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt.prompt}],
        temperature=temperature,
        max_tokens=max_tokens,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        request_id = chunk.id.removeprefix("chatcmpl-")
        for choice in chunk.choices:
            if choice.delta.content:
                first = first or time.monotonic()
                text += choice.delta.content
    end = time.monotonic()
    return Reply(
        prompt=prompt,
        temperature=temperature,
        request_id=request_id,
        text=text,
        seconds=end - start,
        first_token_seconds=(first or end) - start,
    )
