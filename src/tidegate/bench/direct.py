"""The same engine without a link: what serving costs when nothing is limited. A baseline, no more.

Streams are batched, sampled and ended by the code the inner half runs, and begin as the outer half
lets them; there is no weak model, no coder, no frame and no ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import msgspec

from tidegate.coding.upload import ABORT
from tidegate.models.port import F32Array, Model, ModelInfo, Tokenizer
from tidegate.sampling.finish import Limits, Rules
from tidegate.sampling.seed import SeedService
from tidegate.serve.inner.generate import Generator
from tidegate.serve.inner.reasoning import ReasoningStore
from tidegate.serve.jobs import Delta, Event, Failed, Finished, Job, seed_of
from tidegate.serve.lockstep import Lockstep, Outcome, Symbol, Voice, VoiceKey
from tidegate.serve.outer.link_stream import make_join
from tidegate.serve.schedule import PullPolicy, Work
from tidegate.units import Bits, Seconds
from tidegate.wire.messages import Join, Step


class _NoWeakModel:
    """Stands where the weak model would; no text is short enough for it, so it is never asked."""

    exact = True
    fingerprint = "none"
    context_length = 0
    eos_ids: frozenset[int] = frozenset()

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def describe(self) -> ModelInfo:
        return ModelInfo(name="none", parameters=0, licence="", provenance="", numerics="")

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> F32Array:
        raise NotImplementedError

    def fork(self, sequence_id: int, new_id: int) -> None:
        raise NotImplementedError

    def drop(self, sequence_id: int) -> None:
        raise NotImplementedError


@dataclass(slots=True)
class _Stream:
    join: Join
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    untold: list[int] = field(default_factory=list)
    tokens: int = 0
    gone: bool = False


class DirectEngine:
    """`serve.jobs.Engine` on the strong model itself. Use as an async context manager."""

    def __init__(
        self,
        strong: Model,
        tokenizer: Tokenizer,
        seeds: SeedService,
        store: ReasoningStore,
        *,
        slots: int,
    ) -> None:
        self._generator = Generator(strong, store)
        self._seeds = seeds
        self._slots = slots
        self._vocab_size = strong.vocab_size
        rules = Rules(Limits(max_tokens=1), tokenizer.eos_ids, tokenizer.decode)
        weak = _NoWeakModel(strong.vocab_size)
        self._lockstep = Lockstep(weak, rules, slots=slots, echo=False)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[_Stream] = deque()
        self._live: dict[int, _Stream] = {}
        self._wake = asyncio.Event()
        self._work = Work(PullPolicy())
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> DirectEngine:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=False)

    def healthy(self) -> bool:
        """Whether it is running."""
        return self._task is not None and not self._task.done()

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        """See `Engine.stream`."""
        seed = seed_of(job, self._seeds)
        # Nothing hides reasoning here, so there is none.
        stream = _Stream(make_join(replace(job, reasoning=False), seed, None, self._vocab_size))
        self._waiting.append(stream)
        self._wake.set()
        try:
            while True:
                event = await stream.events.get()
                yield event
                if not isinstance(event, Delta):
                    return
        finally:
            stream.gone = True

    async def _run(self) -> None:
        number = 0
        try:
            while True:
                if not (self._waiting or self._live):
                    self._wake.clear()
                    await self._wake.wait()
                step = self._next_step(number)
                prompts = sum(len(join.prompt) for join in step.joins)
                self._work.granted(number, Seconds(time.monotonic()), prompts=prompts)
                loop = asyncio.get_running_loop()
                told = await loop.run_in_executor(self._thread, self._do, step)
                now, goes_on = Seconds(time.monotonic()), bool(self._live)
                self._work.answered(number, number, now, goes_on=goes_on)
                number += 1
                for voice, symbol, outcome in told:
                    self._tell(voice.key, symbol, outcome)
        finally:
            for stream in (*self._waiting, *self._live.values()):
                stream.events.put_nowait(Failed("engine_error", "The engine stopped."))

    def _next_step(self, number: int) -> Step:
        cancels = tuple(slot for slot, stream in self._live.items() if stream.gone)
        for slot in cancels:
            del self._live[slot]
        joins: list[Join] = []
        wanted = self._work.joining([len(stream.join.prompt) for stream in self._waiting])
        for slot in range(self._slots):
            if slot in self._live or len(joins) == wanted:
                continue
            stream = self._live[slot] = self._waiting.popleft()
            joins.append(msgspec.structs.replace(stream.join, slot=slot))
        return Step(number=number, settled=0, cancels=cancels, joins=tuple(joins))

    def _do(self, step: Step) -> list[tuple[Voice, Symbol, Outcome]]:
        voices = self._lockstep.open(step)
        self._generator.keep(voices)
        symbols = self._generator.step(voices)
        return [
            (voice, symbol, self._lockstep.observe(voice, symbol))
            for voice, symbol in zip(voices, symbols, strict=True)
        ]

    def _tell(self, key: VoiceKey, symbol: Symbol, outcome: Outcome) -> None:
        stream = self._live[key.slot]
        if isinstance(symbol, int) and symbol >= 0:
            stream.tokens += 1
            stream.untold.append(symbol)
        if stream.untold and (outcome.text or outcome.ended):
            stream.events.put_nowait(Delta(tuple(stream.untold), outcome.text))
            stream.untold.clear()
        if not outcome.ended:
            return
        del self._live[key.slot]
        if symbol == ABORT or outcome.reason is None:
            stream.events.put_nowait(Failed("engine_error", "The model failed."))
        else:
            stream.events.put_nowait(Finished(outcome.reason, Bits(0), stream.tokens))
