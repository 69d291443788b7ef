"""The outer half in a process of its own, for `fleet_lanes`: lanes and links, without HTTP.

Reads its plan from standard input; writes what it found as one JSON line.
"""

from __future__ import annotations

import asyncio
import itertools
import resource
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import cast

import msgspec

from tidegate.bench.fleet_lanes_plan import MODEL, Found, OuterPlan, log_to_stderr
from tidegate.bench.prompts import load as load_prompts
from tidegate.clock import SystemClock
from tidegate.errors import EngineError
from tidegate.models import ngram, tokenizer
from tidegate.models.prepared import prepare
from tidegate.models.shared import SharedModel
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService
from tidegate.serve.jobs import Delta, Event, Failed, Job
from tidegate.serve.outer.lanes import Lane, Lanes
from tidegate.serve.outer.link import LinkEngine
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.serve.telemetry import Metrics
from tidegate.units import Bits, Seconds

_PAGE = resource.getpagesize()


class _Purse:
    """Counts nothing: the ledger is measured elsewhere."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def reserve(self, principal: str, bits: Bits) -> int:
        return next(self._numbers)

    def extend(self, reservation: int, bits: Bits) -> None: ...

    def commit(self, reservation: int, bits: Bits) -> None: ...

    def release(self, reservation: int) -> None: ...

    def charge(self, principal: str, bits: Bits, reason: str) -> None: ...


class Outer:
    """Lanes to `plan.addresses`, and jobs for them."""

    def __init__(self, plan: OuterPlan) -> None:
        self._plan = plan
        words = tokenizer.load(prepare(MODEL))
        self._prompts = [
            tuple(words.chat([{"role": "user", "content": prompt.prompt}]))
            for prompt in load_prompts(None, 64, longest=400)
        ]
        self._numbers = itertools.count()
        self.tokens = 0
        shared, metrics, clock = (
            SharedModel(ngram.load(None), gather=False),
            Metrics(),
            SystemClock(),
        )
        lanes = []
        for number, address in enumerate(plan.addresses):
            link = LinkEngine(
                partial(asyncio.open_unix_connection, address),
                plan.secret,
                shared.view(),
                words,
                SeedService(bytes(32)),
                _Purse(),
                clock,
                metrics,
                LinkSettings(lane=f"lane-{number}", slots=plan.slots),
            )
            lanes.append(Lane(f"lane-{number}", link, plan.slots, clock))
        self.lanes = Lanes(lanes, metrics)

    def job(self, tokens: int) -> Job:
        number = next(self._numbers)
        return Job(
            request_id=f"bench-{number}",
            choice=0,
            principal="bench",
            prompt_ids=(*self._prompts[number % len(self._prompts)],),  # each its own
            params=SamplingParams(temperature=0.7),
            limits=Limits(max_tokens=tokens, ignore_eos=True),
        )

    async def ask(self, tokens: int) -> None:
        """One answer. Raises EngineError where it fails."""
        stream = cast("AsyncGenerator[Event, None]", self.lanes.stream(self.job(tokens)))
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Delta):
                    self.tokens += len(event.token_ids)
                elif isinstance(event, Failed):
                    raise EngineError(f"an answer failed: {event.code}")

    async def until_up(self) -> None:
        while {lane.state for lane in self.lanes.shown()} != {"up"}:
            await asyncio.sleep(0.02)

    @property
    def bits(self) -> int:
        return sum(lane.bits for lane in self.lanes.shown())


async def throughput(outer: Outer, plan: OuterPlan) -> Found:
    """Keep every lane's streams busy, and count what comes in the window."""

    async def ask_on(first: int) -> None:
        # Streams do not begin in step, or all would read their prompts at the same moments.
        await outer.ask(1 + first % plan.tokens)
        while True:
            await outer.ask(plan.tokens)

    count = plan.streams * len(plan.addresses)
    asking = [asyncio.create_task(ask_on(7 * number)) for number in range(count)]
    try:
        await _while_busy(asking, plan.warm_s)
        begun, cpu, tokens, bits = time.perf_counter(), _cpu(), outer.tokens, outer.bits
        await _while_busy(asking, plan.seconds)
        return Found(
            tokens=outer.tokens - tokens,
            seconds=time.perf_counter() - begun,
            cpu_s=_cpu() - cpu,
            bits=outer.bits - bits,
        )
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def memory(outer: Outer, plan: OuterPlan) -> Found:
    """Open streams at once, and read memory before, and when each that has a slot has spoken.

    What a process frees stays its own, so it has had no more than one stream before.
    """
    await outer.ask(8)
    before = _resident()
    asking = [asyncio.create_task(outer.ask(plan.tokens)) for _ in range(plan.streams)]
    try:
        await _while_busy(asking, plan.seconds)
        return Found(tokens=outer.tokens, bytes_each=(_resident() - before) / plan.streams)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _while_busy(asking: list[asyncio.Task[None]], seconds: Seconds | float) -> None:
    """Raises what a stream raised, which none should."""
    done, _ = await asyncio.wait(asking, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


async def run(plan: OuterPlan) -> Found:
    """Carry out a plan."""
    outer = Outer(plan)
    async with outer.lanes:
        async with asyncio.timeout(60):
            await outer.until_up()
        return await (throughput if plan.what == "throughput" else memory)(outer, plan)


if __name__ == "__main__":
    log_to_stderr()
    with suppress(BrokenPipeError):
        found = asyncio.run(run(msgspec.json.decode(sys.stdin.buffer.readline(), type=OuterPlan)))
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
