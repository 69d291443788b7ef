"""An inner half in a process of its own, for `fleet_lanes`: a real engine, or one made of time.

The stand-in draws tokens as likely as a model's would be, and takes the same time for every step,
however many streams there are: what a lane can carry is then known, and what it carries less is the
link's doing. Reads its plan from standard input and ends with it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from tidegate.bench.fleet_lanes_plan import MODEL, InnerPlan, log_to_stderr
from tidegate.clock import SystemClock
from tidegate.models import ngram, tokenizer
from tidegate.models.exact import load as exact
from tidegate.models.port import F32Array, Model, ModelInfo
from tidegate.models.prepared import EXACT, prepare
from tidegate.serve.inner.engine import InnerEngine
from tidegate.serve.inner.reasoning import ReasoningStore
from tidegate.serve.inner.server import InnerServer, LifetimeAllowance
from tidegate.units import Bits

_SPREAD = 1.5
"""How far the stand-in's logits lie from what both halves expect: some bits a token to say."""

_NOISES = 61


class StandIn:
    """`port.Model` that knows what an n-gram knows, and a little else; each call takes `step_s`."""

    exact = True

    def __init__(self, model: Model, step_s: float) -> None:
        self._model = model
        self._step_s = step_s
        self.vocab_size = model.vocab_size
        self.eos_ids = model.eos_ids
        self.context_length = model.context_length
        self.fingerprint = "stand-in"
        counter = np.arange(_NOISES * self.vocab_size, dtype=np.uint32)
        drawn = ((counter * np.uint32(2_654_435_761)) >> 8).astype(np.float32)
        scaled = (drawn / np.float32(1 << 24) - np.float32(0.5)) * np.float32(2 * _SPREAD)
        self._noise_KV = scaled.reshape(_NOISES, -1)

    def describe(self) -> ModelInfo:
        """Of what it is made."""
        return ModelInfo(
            name="stand-in",
            parameters=1,
            licence="Apache-2.0",
            provenance="made for this bench",
            numerics="none",
        )

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> F32Array:
        """See `port.Model.forward`."""
        begun = time.perf_counter()
        logits_NV = self._model.forward(batch)
        for row_V, (_, tokens) in zip(logits_NV, batch, strict=True):
            row_V += self._noise_KV[tokens[-1] % _NOISES]
        time.sleep(max(0.0, self._step_s - (time.perf_counter() - begun)))
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        """See `port.Model.fork`."""
        self._model.fork(sequence_id, new_id)

    def drop(self, sequence_id: int) -> None:
        """See `port.Model.drop`."""
        self._model.drop(sequence_id)


async def run(plan: InnerPlan) -> None:
    """Serve until standard input ends; says `ready` once it listens."""
    strong: Model
    if plan.step_s:
        strong = StandIn(ngram.load(None), plan.step_s)
    else:
        strong = exact.load(prepare(EXACT + MODEL), threads=1, max_context=1024)
    engine = InnerEngine(
        strong,
        ngram.load(None),
        tokenizer.load(prepare(MODEL)),
        ReasoningStore(SystemClock()),
        slots=plan.slots,
    )
    server = InnerServer(engine, plan.secret, LifetimeAllowance(Bits(1 << 60)))
    async with await server.listen_unix(plan.address):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)
        # Nothing here is worth an orderly end, and sessions may be in the middle of a step.
        os._exit(0)


if __name__ == "__main__":
    log_to_stderr()
    asyncio.run(run(msgspec.json.decode(sys.stdin.buffer.readline(), type=InnerPlan)))
