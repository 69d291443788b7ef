"""Answers served by a small exact model through the outer half's recorder, into a record on disk.

`Liar` stands where an attacker does who owns the inner half: what he says is recorded as served.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from proof_world import SHAPE, write_folder

from tidegate.bench.direct import DirectEngine
from tidegate.clock import ManualClock, SystemClock
from tidegate.models import tokenizer
from tidegate.models.exact import load as exact
from tidegate.models.exact.model import ExactModel
from tidegate.models.replay_exact import ExactReplay
from tidegate.models.tokenizer import FileTokenizer
from tidegate.record.entries import Does, Stack
from tidegate.record.private import Clear, Seal
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService
from tidegate.serve.inner.reasoning import ReasoningStore
from tidegate.serve.jobs import Delta, Engine, Event, Finished, Job
from tidegate.serve.outer.recorder import RecordedEngine
from tidegate.transparency.note import Signer
from tidegate.verify.record_commit import GroupCommit
from tidegate.verify.record_reader import Expected, Reader
from tidegate.verify.record_store import Source
from tidegate.verify.record_store_files import FileSource, FileStore
from tidegate.verify.record_writer import Writer
from tidegate.verify.replay_answer import Checked, Rule, Task, recheck
from tidegate.verify.replay_run import Choice, Run
from tidegate.verify.replay_tally import Tally
from tidegate.verify.selection import Policy

ORIGIN = "example.com/served"
SIGNER = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
SEEDS = SeedService(bytes(range(32)))
PLAIN = SamplingParams(temperature=1.0)

Tamper = Callable[[Job, int, int], int]
"""(job, place, token) to the token that is said instead."""


class Liar:
    """An engine that says other tokens than the one behind it, and goes on as if it had not."""

    def __init__(self, engine: Engine, tamper: Tamper) -> None:
        self._engine = engine
        self._tamper = tamper

    def healthy(self) -> bool:
        return True

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        place = 0
        async for event in self._engine.stream(job):
            if isinstance(event, Delta):
                ids = enumerate(event.token_ids, place)
                place += len(event.token_ids)
                event = replace(event, token_ids=tuple(self._tamper(job, *one) for one in ids))
            yield event


@dataclass
class Served:
    """A model folder, and the record of what it answered."""

    folder: Path
    answers: dict[str, list[int]] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "record"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def key(self) -> Path:
        path = self.folder / "record.key.pub"
        path.write_text(SIGNER.verifier.encode() + "\n")
        return path

    def words(self) -> FileTokenizer:
        return tokenizer.load(self.model)

    def open(self) -> ExactModel:
        return exact.load(self.model, threads=1, backend="numpy")

    def serve(
        self,
        jobs: Sequence[Job],
        *,
        tamper: Tamper | None = None,
        around: Callable[[Engine], Engine] = lambda engine: engine,
        seal: Seal | None = None,
        **stack: object,
    ) -> None:
        """Answer and record `jobs`, all at once; `stack` says other things of what answers."""
        asyncio.run(self._serve(jobs, tamper, around, seal or Clear(), stack))

    async def _serve(
        self,
        jobs: Sequence[Job],
        tamper: Tamper | None,
        around: Callable[[Engine], Engine],
        seal: Seal,
        changes: dict[str, object],
    ) -> None:
        model, words = self.open(), self.words()
        named: dict[str, object] = {
            "model": model.fingerprint,
            "tokenizer": words.fingerprint,
            "template": words.template_hash,
            "weak": "",
            "vocabulary": model.vocab_size,
            "engine": "exact",
            "numerics": "integers",
        }
        stack = Stack(**(named | changes))  # type: ignore[arg-type]
        store = ReasoningStore(ManualClock())
        with closing(FileStore(self.log)) as files:

            def writer(more: Sequence[Does]) -> Writer:
                return Writer(files, SIGNER, SystemClock(), stack, more=more, segment_bytes=1 << 20)

            async with (
                GroupCommit(writer, SystemClock()) as log,
                DirectEngine(model, words, SEEDS, store, slots=8) as direct,
            ):
                engine: Engine = direct if tamper is None else Liar(direct, tamper)
                recorded = RecordedEngine(around(engine), SEEDS, log, seal)
                await asyncio.gather(*(self._ask(recorded, job) for job in jobs))

    async def _ask(self, engine: Engine, job: Job) -> None:
        said = self.answers.setdefault(f"{job.request_id}/{job.choice}", [])
        async for event in engine.stream(job):
            if isinstance(event, Delta):
                said += event.token_ids
            elif isinstance(event, Finished):
                assert event.completion_tokens == len(said)


def world(folder: Path) -> Served:
    """A model and no record yet."""
    write_folder(folder / "model", SHAPE, change=less_sure)
    return Served(folder)


def less_sure(tensors: dict[str, NDArray[Any]]) -> None:
    """Smaller logits: some 4 bits of entropy a token, so that noise decides."""
    tensors["embed.scale"] = (tensors["embed.scale"] * np.float32(0.2)).astype(np.float32)


def job(
    request: str,
    *,
    prompt: int = 9,
    tokens: int = 12,
    params: SamplingParams = PLAIN,
    stop: tuple[str, ...] = (),
    ignore_eos: bool = False,
    **more: object,
) -> Job:
    """A request with a prompt of so many tokens."""
    return Job(
        request_id=request,
        choice=0,
        principal=str(more.pop("principal", "alice")),
        prompt_ids=tuple((7 * place + len(request) + 3) % 95 for place in range(prompt)),
        params=params,
        limits=Limits(max_tokens=tokens, stop=stop, ignore_eos=ignore_eos),
        **more,  # type: ignore[arg-type]
    )


class InProcess:
    """An `Executor` of this process, with a hook that is asked before each answer."""

    def __init__(
        self,
        served: Served,
        rule: Rule | None = None,
        before: Callable[[Task], None] = lambda _: None,
    ) -> None:
        self._replay = ExactReplay(served.open())
        self._words = served.words()
        self._rule = rule or Rule()
        self._before = before
        self._done: list[Checked] = []
        self.tasks: list[Task] = []
        self.most = 0

    def room(self) -> bool:
        return len(self._done) < 4

    def pending(self) -> int:
        return len(self._done)

    def put(self, task: Task) -> None:
        self._before(task)
        self.tasks.append(task)
        self._done.append(recheck(task, self._replay, self._words, self._rule))
        self.most = max(self.most, len(self._done))

    def take(self, timeout: float | None = None) -> Checked | None:
        return self._done.pop(0) if self._done else None


def expected(served: Served) -> Expected:
    """What a verifier who has the model demands."""
    words = served.words()
    return Expected(
        models=frozenset({served.open().fingerprint}),
        tokenizers=frozenset({words.fingerprint}),
        templates=frozenset({words.template_hash}),
    )


def run_of(
    served: Served,
    executor: InProcess | None = None,
    *,
    source: Source | None = None,
    policy: Policy | None = None,
    key: bytes = bytes(32),
    **more: object,
) -> Run:
    """A run over a served record; call `round` and `finish`."""
    reader = Reader(
        source or FileSource(served.log),
        SIGNER.verifier,
        expected=expected(served),
    )
    return Run(
        reader,
        executor or InProcess(served),
        Tally(),
        Choice(origin=ORIGIN, policy=policy or Policy(1), secret=key),  # type: ignore[arg-type]
        vocab_size=SHAPE.vocab_size,
        **more,  # type: ignore[arg-type]
    )
