"""A record of real answers for the fleet's bench: packaged prompts, SmolLM2 on the exact engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.bench.direct import DirectEngine
from tidegate.bench.prompts import load
from tidegate.clock import SystemClock
from tidegate.errors import EngineError
from tidegate.models import tokenizer
from tidegate.models.cache import Progress
from tidegate.models.exact import load as exact
from tidegate.models.port import Model
from tidegate.models.tokenizer import FileTokenizer
from tidegate.record.entries import Does, Stack
from tidegate.record.private import Clear
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService
from tidegate.serve.inner.reasoning import ReasoningStore
from tidegate.serve.jobs import Failed, Finished, Job
from tidegate.serve.outer.recorder import RecordedEngine
from tidegate.transparency.note import Signer
from tidegate.verify.record_commit import GroupCommit
from tidegate.verify.record_store_files import FileStore
from tidegate.verify.record_writer import Writer
from tidegate.verify.replay_model import Spec, folder_of

MODEL = "smollm2"
SPEC = Spec("exact", MODEL, threads=1)
LONGEST_PROMPT = 300
"""Characters: a short prompt, so that answers are most of the work."""

_ORIGIN = "example.com/fleet-bench"
_SLOTS = 8
_SEGMENT = 64 << 10
_PARAMS = SamplingParams(temperature=1.0)


@dataclass(frozen=True, slots=True)
class Served:
    """Where the record lies, its public key's file, and what is in it."""

    record: Path
    key: Path
    answers: int
    tokens: int


def serve(folder: Path, answers: int, tokens: int, progress: Progress) -> Served:
    """Answer `answers` prompts with `tokens` tokens each into a new record under `folder`.

    Raises ModelError, or EngineError where an answer fails.
    """
    place = folder_of(SPEC, progress)
    words, model = tokenizer.load(place), exact.load(place)
    signer = Signer(_ORIGIN, Ed25519PrivateKey.generate())
    key = folder / "record.key.pub"
    key.write_text(signer.verifier.encode() + "\n")
    prompts = load(None, answers, longest=LONGEST_PROMPT)
    jobs = [
        Job(
            request_id=f"bench {number}",
            choice=0,
            principal="bench",
            prompt_ids=tuple(words.chat([{"role": "user", "content": row.prompt}])),
            params=_PARAMS,
            limits=Limits(max_tokens=tokens, stop=(), ignore_eos=True),
        )
        for number, row in enumerate(prompts)
    ]
    made = asyncio.run(_serve(folder / "record", signer, model, words, jobs, progress))
    return Served(folder / "record", key, len(jobs), made)


async def _serve(
    folder: Path,
    signer: Signer,
    model: Model,
    words: FileTokenizer,
    jobs: Sequence[Job],
    progress: Progress,
) -> int:
    seeds = SeedService(bytes(32))
    stack = Stack(
        model=model.fingerprint,
        tokenizer=words.fingerprint,
        template=words.template_hash,
        weak="",
        vocabulary=model.vocab_size,
        engine="exact",
        numerics=model.describe().numerics,
    )
    clock = SystemClock()
    with closing(FileStore(folder)) as files:

        def writer(more: Sequence[Does]) -> Writer:
            return Writer(files, signer, clock, stack, more=more, segment_bytes=_SEGMENT)

        async with (
            GroupCommit(writer, clock) as log,
            DirectEngine(model, words, seeds, ReasoningStore(clock), slots=_SLOTS) as direct,
        ):
            engine = RecordedEngine(direct, seeds, log, Clear())
            made = done = 0

            async def ask(job: Job) -> None:
                nonlocal made, done
                async for event in engine.stream(job):
                    if isinstance(event, Failed):
                        raise EngineError(event.message)
                    if isinstance(event, Finished):
                        made, done = made + event.completion_tokens, done + 1
                        progress("answers to verify", done, len(jobs))

            await asyncio.gather(*(ask(job) for job in jobs))
    return made
