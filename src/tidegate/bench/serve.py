"""What the link costs a user in time, and what framing costs in bits, as the work grows.

Two engines answer the same prompts in alternation: the strong model served directly, and the same
model behind the link (inner half, link, outer half). The second part asks the link's engine itself
for answers of fixed length, to see bits, seconds and memory grow.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openai import AsyncOpenAI, OpenAIError

from tidegate.bench.prompts import Prompt
from tidegate.errors import TidegateError
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.jobs import Engine, Failed, Finished, Job
from tidegate.serve.outer.link_settings import LinkTotals

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Pass:
    """One engine, one level of concurrency, all prompts once."""

    tokens: int
    seconds: float
    first_token_seconds: float
    """Median over requests."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the growth table. Bits are of the link; memory is resident, in bytes."""

    streams: int
    tokens_each: int
    tokens: int
    seconds: float
    bits: int
    ideal: float
    inner_memory: int
    outer_memory: int


async def run_pass(
    url: str, key: str, model: str, prompts: Sequence[Prompt], streams: int, max_tokens: int
) -> Pass:
    """Ask every prompt through HTTP with `streams` requests under way. Raises TidegateError."""
    client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=600)
    gate = asyncio.Semaphore(streams)
    firsts: list[float] = []

    async def ask(prompt: Prompt) -> int:
        async with gate:
            start = time.perf_counter()
            first = 0.0
            tokens = 0
            stream = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": prompt.prompt}],
                temperature=0.7,
                max_tokens=max_tokens,
                stream=True,
                stream_options={"include_usage": True},
            )
            async for chunk in stream:
                if not first and any(choice.delta.content for choice in chunk.choices):
                    first = time.perf_counter() - start
                if chunk.usage is not None:
                    tokens = chunk.usage.completion_tokens
            firsts.append(first or time.perf_counter() - start)
            return tokens

    start = time.perf_counter()
    try:
        async with client:
            counts = await asyncio.gather(*(ask(prompt) for prompt in prompts))
    except OpenAIError as error:
        raise TidegateError(f"a request failed: {error}") from error
    seconds = time.perf_counter() - start
    return Pass(sum(counts), seconds, statistics.median(firsts))


async def grow(
    engine: Engine,
    totals: LinkTotals,
    prompts: Sequence[tuple[int, ...]],
    pids: tuple[int, int],
    *,
    sizes: Sequence[tuple[int, int]],
    progress: Progress,
) -> list[Cell]:
    """Answers of fixed length for each (streams, tokens) of `sizes`. Raises TidegateError."""
    cells = []
    for index, (streams, length) in enumerate(sizes):
        progress("growth", index, len(sizes))
        before = (totals.bits, totals.ideal)
        start = time.perf_counter()
        jobs = [
            _job(f"grow-{index}-{i}", prompts[i % len(prompts)], length) for i in range(streams)
        ]
        tokens = sum(await asyncio.gather(*(_finish(engine, job) for job in jobs)))
        cells.append(
            Cell(
                streams,
                length,
                tokens,
                time.perf_counter() - start,
                totals.bits - before[0],
                totals.ideal - before[1],
                *(resident(pid) for pid in pids),
            )
        )
    progress("growth", len(sizes), len(sizes))
    return cells


def _job(request_id: str, prompt: tuple[int, ...], length: int) -> Job:
    return Job(
        request_id=request_id,
        choice=0,
        principal="bench",
        prompt_ids=prompt,
        params=SamplingParams(temperature=0.7),
        limits=Limits(max_tokens=length, ignore_eos=True),
    )


async def _finish(engine: Engine, job: Job) -> int:
    async for event in engine.stream(job):
        if isinstance(event, Failed):
            raise TidegateError(f"a stream failed: {event.message}")
        if isinstance(event, Finished):
            return event.completion_tokens
    raise TidegateError("a stream ended without an end")


def resident(pid: int) -> int:
    """Resident memory of a process in bytes; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line for line in lines if line.startswith("VmRSS:")]
    return 1024 * int(found[0].split()[1]) if found else 0
