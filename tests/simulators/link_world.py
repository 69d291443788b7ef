"""Both halves of the link in one process, with models small enough to see through.

The models are tables of random logits, so every token of an answer can be computed without the
link (`World.expected`) and compared with what came through it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidegate.clock import SystemClock
from tidegate.errors import BudgetExceededError, ModelError
from tidegate.models.port import F32Array, ModelInfo
from tidegate.sampling.filters import process_logits
from tidegate.sampling.finish import Limits
from tidegate.sampling.gumbel import greedy, sample
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService, prompt_digest, sub_seed
from tidegate.serve.inner.draw import Drawer
from tidegate.serve.inner.engine import InnerEngine
from tidegate.serve.inner.generate import Scorer, by_likelihood
from tidegate.serve.inner.reasoning import ReasoningStore, Thinking, credential_digest
from tidegate.serve.inner.server import InnerServer, LifetimeAllowance
from tidegate.serve.jobs import Delta, Event, Failed, Finished, Job
from tidegate.serve.outer.link import LinkEngine
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.serve.schedule import PullPolicy
from tidegate.serve.telemetry import Metrics
from tidegate.units import Bits, Seconds

VOCABULARY = 96
EOS = 0
SECRET = b"a shared secret of the link"
REVIEWER = "the reviewer's credential"
QUICK = PullPolicy(delay=Seconds(0.0), delay_steps=2)


class TableModel:
    """Logits depend on the last two tokens only; `touch` may change or refuse a call."""

    def __init__(
        self,
        sharpness: float = 3.0,
        blur: float = 0.0,
        *,
        exact: bool = True,
        eos_logit: float = 0.0,
        context: int = 4096,
    ) -> None:
        rng = np.random.default_rng(7)
        self.table_VV = (sharpness * rng.standard_normal((VOCABULARY, VOCABULARY))).astype(
            np.float32
        )
        self.table_VV[:, EOS] = eos_logit
        noise = np.random.default_rng(8).standard_normal((VOCABULARY, VOCABULARY))
        self.table_VV += (blur * noise).astype(np.float32)
        self.vocab_size = VOCABULARY
        self.eos_ids = frozenset({EOS})
        self.context_length = context
        self.fingerprint = f"table {blur}"
        self.exact = exact
        self.sequences: dict[int, list[int]] = {}
        self.calls = 0
        self.touch: Callable[[TableModel, Sequence[tuple[int, Sequence[int]]], F32Array], None] = (
            lambda *_: None
        )

    def describe(self) -> ModelInfo:
        return ModelInfo(
            name="table", parameters=1, licence="none", provenance="made up", numerics="float32"
        )

    def logits(self, tokens: Sequence[int]) -> F32Array:
        previous = tokens[-2] if len(tokens) > 1 else 0
        return self.table_VV[tokens[-1]] + np.roll(self.table_VV[previous], 3) * np.float32(0.25)

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> F32Array:
        ids = [sequence for sequence, _ in batch]
        if not batch or ids != sorted(set(ids)):
            raise ModelError("a bad batch")
        wanted = [(*self.sequences.get(sequence, ()), *tokens) for sequence, tokens in batch]
        if any(len(tokens) > self.context_length for tokens in wanted):
            raise ModelError("too long")
        logits_NV = np.stack([self.logits(tokens) for tokens in wanted])
        self.calls += 1
        self.touch(self, batch, logits_NV)
        self.sequences.update({s: list(tokens) for s, tokens in zip(ids, wanted, strict=True)})
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        if new_id in self.sequences:
            raise ModelError("taken")
        self.sequences[new_id] = list(self.sequences[sequence_id])

    def drop(self, sequence_id: int) -> None:
        if sequence_id not in self.sequences:
            raise ModelError("unknown")
        del self.sequences[sequence_id]


class TableTokenizer:
    """One letter a token; the end is no text."""

    vocab_size = VOCABULARY
    eos_ids = frozenset({EOS})
    fingerprint = "letters"

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - 31 for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(31 + token) for token in ids if token != EOS)

    def chat(self, messages: object, *, add_generation_prompt: bool = True) -> list[int]:
        raise NotImplementedError


@dataclass
class MemoryPurse:
    """A ledger of one edge, with everything it was told."""

    cap: int = 10**9
    held: dict[int, int] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    owner: dict[int, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def _check(self, bits: int) -> None:
        if sum(self.held.values()) + sum(self.spent.values()) + bits > self.cap:
            raise BudgetExceededError("no bits left")

    def reserve(self, principal: str, bits: Bits) -> int:
        self._check(bits)
        number = len(self.owner)
        self.owner[number], self.held[number] = principal, bits
        return number

    def extend(self, reservation: int, bits: Bits) -> None:
        self._check(bits)
        self.held[reservation] += bits

    def commit(self, reservation: int, bits: Bits) -> None:
        assert bits <= self.held.pop(reservation)
        self._spend(self.owner[reservation], bits)

    def release(self, reservation: int) -> None:
        self.held.pop(reservation)

    def charge(self, principal: str, bits: Bits, reason: str) -> None:
        self.reasons.append(reason)
        self._spend(principal, bits)

    def _spend(self, principal: str, bits: int) -> None:
        self.spent[principal] = self.spent.get(principal, 0) + bits


@dataclass
class Answer:
    """What a reader of a stream saw."""

    tokens: tuple[int, ...] = ()
    text: str = ""
    end: Finished | Failed | None = None

    def take(self, event: Event) -> None:
        assert self.end is None, "nothing follows the last event"
        if isinstance(event, Delta):
            self.tokens += event.token_ids
            self.text += event.text
        else:
            self.end = event


class Frames:
    """What leaves the inner half, one frame a write; `tamper` may change, hold or add frames."""

    def __init__(self, writer: asyncio.StreamWriter, world: World) -> None:
        self._writer = writer
        self._world = world

    def write(self, data: bytes) -> None:
        self._world.frames.append(data)
        changed = self._world.tamper(len(self._world.frames) - 1, data)
        if changed is None:
            self._writer.close()
        elif changed:
            self._writer.write(changed)

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


class World:
    """An inner server, a link engine and the wire between them."""

    def __init__(
        self,
        *,
        exact: bool = True,
        eos_logit: float = 0.0,
        settings: LinkSettings | None = None,
        thinking: Thinking | None = None,
        scorer: Scorer = by_likelihood,
        cap: int = 10**9,
        allowance: int = 10**9,
        weak_context: int = 4096,
        strong: Any = None,
        weak: tuple[Any, Any] | None = None,
        drawer: Drawer | None = None,
    ) -> None:
        self.strong = strong or TableModel(eos_logit=eos_logit)
        self.weak_inner, self.weak_outer = weak or (
            TableModel(blur=0.7, exact=exact, context=weak_context),
            TableModel(blur=0.7, exact=exact, context=weak_context),
        )
        self.tokenizer = TableTokenizer()
        self.seeds = SeedService(b"a key of more than 16 bytes")
        self.store = ReasoningStore(SystemClock(), reviewers=(credential_digest(REVIEWER),))
        self.inner = InnerEngine(
            drawer or self.strong,
            self.weak_inner,
            self.tokenizer,
            self.store,
            slots=64,
            thinking=thinking,
            scorer=scorer,
        )
        self.allowance = LifetimeAllowance(Bits(allowance))
        self.server = InnerServer(self.inner, SECRET, self.allowance, greeting_timeout=Seconds(2.0))
        self.purse = MemoryPurse(cap)
        self.metrics = Metrics()
        self.frames: list[bytes] = []
        self.connections = 0
        self.tamper: Callable[[int, bytes], bytes | None] = lambda _, data: data
        self._tasks: list[asyncio.Task[None]] = []
        self.engine = LinkEngine(
            self.connect,
            SECRET,
            self.weak_outer,
            self.tokenizer,
            self.seeds,
            self.purse,
            SystemClock(),
            self.metrics,
            settings or LinkSettings(policy=QUICK),
        )

    async def __aenter__(self) -> World:
        await self.engine.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.server.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.connections += 1
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        handling = self.server.handle(reader, Frames(writer, self))  # type: ignore[arg-type]
        self._tasks.append(asyncio.create_task(handling))
        return await asyncio.open_connection(sock=ours)

    async def answer(self, job: Job) -> Answer:
        answer = Answer()
        async for event in self.engine.stream(job):
            answer.take(event)
        return answer

    def seed(self, job: Job) -> bytes:
        return self.seeds.derive(
            request_id=job.request_id,
            prompt_hash=prompt_digest(job.prompt_ids),
            params=job.params,
            attempt=job.attempt,
            user_seed=job.user_seed,
            choice=job.choice,
        )

    def expected(self, job: Job, candidate: int = 0, prefix: tuple[int, ...] = ()) -> Answer:
        """The answer to a plain job, worked out token by token without any of the link's code."""
        seed = sub_seed(self.seed(job), "candidate", candidate)
        tokens: list[int] = []
        reason = "length"
        text = ""
        while len(tokens) < job.limits.max_tokens:
            context = (*job.prompt_ids, *prefix, *tokens)
            scores_V = process_logits(
                self.strong.logits(context), job.params, (*job.prompt_ids, *prefix), tokens
            )
            greedily = job.params.temperature == 0.0
            tokens.append(greedy(scores_V) if greedily else sample(scores_V, seed, len(tokens)))
            text = self.tokenizer.decode(tokens)
            stops = [text.find(stop) for stop in job.limits.stop if stop in text]
            if tokens[-1] == EOS and not job.limits.ignore_eos:
                reason = "stop"
                break
            if stops:
                text, reason = text[: min(stops)], "stop"
                break
        end = Finished(reason, Bits(0), len(tokens))  # type: ignore[arg-type]
        return Answer(tuple(tokens), text, end)


def job(number: int = 0, **changes: object) -> Job:
    """A small job; `number` makes it another one."""
    max_tokens = changes.pop("max_tokens", 24)
    stop = changes.pop("stop", ())
    fields: dict[str, object] = {
        "request_id": f"request-{number}",
        "choice": 0,
        "principal": f"principal-{number % 3}",
        "prompt_ids": tuple(1 + (number * 7 + k) % (VOCABULARY - 1) for k in range(3 + number % 5)),
        "params": SamplingParams(temperature=(0.0, 0.7, 1.0)[number % 3]),
        "limits": Limits(max_tokens=max_tokens, stop=stop),  # type: ignore[arg-type]
    }
    return Job(**(fields | changes))  # type: ignore[arg-type]


def same(answer: Answer, expected: Answer) -> bool:
    """Whether an answer is what it should be, its cost aside."""
    if not isinstance(answer.end, Finished) or not isinstance(expected.end, Finished):
        return False
    return (answer.tokens, answer.text, answer.end.reason, answer.end.completion_tokens) == (
        expected.tokens,
        expected.text,
        expected.end.reason,
        expected.end.completion_tokens,
    )
