"""Real answers with seeds of their own: honest ones, and those of servers that cheat.

Answers are made in blocks, each cached as a whole. Blocks take turns with the temperatures, and the
prompts go round; a prompt that comes again has another seed. A block ends after as many tokens as
was asked for, cutting off what still runs, so that the batch is full from beginning to end.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from tidegate.bench.prompts import Prompt
from tidegate.bench.verify_work import Answer, Work
from tidegate.models.cache import Progress
from tidegate.models.port import F32Array, Model, Tokenizer
from tidegate.sampling.filters import process_logits
from tidegate.sampling.gumbel import Noise
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService, prompt_digest, sub_seed

TEMPERATURES = (0.7, 1.0)
MAX_TOKENS = 256
LONGEST_PROMPT = 600
"""Characters; a longer prompt costs time and tells nothing more of noise."""

SEEDS = SeedService(b"tidegate bench verify: in public")
"""Fixed, so that a run can be resumed and made again. A server that is verified never sees its."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How tokens are really drawn. Share `deviating` of them comes from noise of the server's own:
    what an ideal coder of hidden bits looks like, and a wrong seed. `temperature` None: as said."""

    deviating: float = 0.0
    temperature: float | None = None


HONEST = Serving()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Answers to make: at least `tokens` tokens on `engine`, `batch` streams side by side."""

    name: str
    engine: str
    batch: int
    tokens: int
    serving: Serving = HONEST
    temperatures: tuple[float, ...] = TEMPERATURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One answer to make. `prompt` is the prompt's name, `temperature` the one that is logged."""

    prompt: str
    prompt_ids: tuple[int, ...]
    temperature: float
    seed: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Answers that were made together; `key` says from what."""

    key: tuple[object, ...]
    answers: tuple[Answer, ...]


@dataclass(slots=True)
class _Stream:
    job: Job
    pending: tuple[int, ...]
    outputs: list[int] = field(default_factory=list)


def prompts_of(rows: Iterable[Prompt], words: Tokenizer) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """(name, chat) of the prompts that are not too long, in a fixed order that mixes sources."""
    fitting = [row for row in rows if len(row.prompt) <= LONGEST_PROMPT]
    mixed = sorted(fitting, key=lambda row: hashlib.sha256(row.id.encode()).digest())
    return tuple(
        (row.id, tuple(words.chat([{"role": "user", "content": row.prompt}]))) for row in mixed
    )


def serve(
    pool: Pool,
    model: Model,
    prompts: Sequence[tuple[str, tuple[int, ...]]],
    work: Work,
    progress: Progress,
) -> list[Block]:
    """The answers of a pool, from `work` as far as they are there. Raises ModelError."""
    blocks: list[Block] = []
    used: Counter[float] = Counter()
    made = 0
    # As many blocks at each temperature, none with longer answers than are allowed.
    rounds = math.ceil(pool.tokens / (MAX_TOKENS * pool.batch * len(pool.temperatures)))
    size = math.ceil(pool.tokens / (rounds * len(pool.temperatures)))
    while made < pool.tokens:
        progress(f"answers, {pool.name}", made, pool.tokens)
        temperature = pool.temperatures[len(blocks) % len(pool.temperatures)]
        todo = jobs(pool, prompts, temperature, used[temperature])
        place = (size, MAX_TOKENS, len(blocks), used[temperature])
        stack = (model.fingerprint, model.describe().numerics)
        key = (pool, *place, *stack, len(prompts), prompts[0])
        answers = work.answers(
            pool.name,
            key,
            partial(generate, model, todo, batch=pool.batch, tokens=size, serving=pool.serving),
        )
        blocks.append(Block(key, tuple(answers)))
        used[temperature] += len(answers)
        made += sum(len(answer.output_ids) for answer in answers)
    progress(f"answers, {pool.name}", pool.tokens, pool.tokens)
    return blocks


def jobs(
    pool: Pool, prompts: Sequence[tuple[str, tuple[int, ...]]], temperature: float, first: int
) -> Iterator[Job]:
    """Jobs without end, from the `first`-th on: every prompt once, then again with new seeds."""
    for number in count(first):
        name, prompt_ids = prompts[number % len(prompts)]
        seed = SEEDS.derive(
            request_id=f"{pool.name} {name}",
            prompt_hash=prompt_digest(prompt_ids),
            params=SamplingParams(temperature=temperature),
            attempt=number // len(prompts),
            user_seed=None,
            choice=0,
        )
        yield Job(prompt=name, prompt_ids=prompt_ids, temperature=temperature, seed=seed)


def generate(
    model: Model,
    jobs: Iterable[Job],
    *,
    batch: int,
    tokens: int,
    max_tokens: int = MAX_TOKENS,
    serving: Serving = HONEST,
) -> list[Answer]:
    """Answers of `tokens` tokens together, or a few more; fewer where jobs run out.

    Every job's seed must be another one. Raises ModelError.
    """
    waiting, running = iter(jobs), dict[int, _Stream]()
    noise = Noise(model.vocab_size)
    done: list[Answer] = []
    made = started = 0
    while made < tokens:
        while len(running) < batch and (job := next(waiting, None)) is not None:
            running[started] = _Stream(job, job.prompt_ids)
            started += 1
        if not running:
            break
        logits_NV = model.forward([(n, stream.pending) for n, stream in running.items()])
        made += len(running)
        for (number, stream), logits_V in zip(tuple(running.items()), logits_NV, strict=True):
            token = _drawn(noise, logits_V, stream, serving)
            stream.outputs.append(token)
            stream.pending = (token,)
            if token in model.eos_ids or len(stream.outputs) == max_tokens:
                model.drop(number)
                done.append(_answer(running.pop(number)))
    for number, stream in running.items():
        model.drop(number)
        done.append(_answer(stream))
    return done


def _drawn(noise: Noise, logits_V: F32Array, stream: _Stream, serving: Serving) -> int:
    job, position = stream.job, len(stream.outputs)
    temperature = job.temperature if serving.temperature is None else serving.temperature
    seed = job.seed
    if serving.deviating and _coin(job.seed, position) < serving.deviating:
        seed = sub_seed(job.seed, "bench.payload")
    noise.move(seed, position)
    return noise.sample(process_logits(logits_V, SamplingParams(temperature=temperature)))


def _coin(seed: bytes, position: int) -> float:
    """Uniform in [0, 1): whether the server deviates here."""
    raw = hashlib.blake2b(position.to_bytes(4, "little"), key=seed, digest_size=8).digest()
    return int.from_bytes(raw, "little") / 2.0**64


def _answer(stream: _Stream) -> Answer:
    job = stream.job
    return Answer(
        prompt=job.prompt,
        prompt_ids=job.prompt_ids,
        output_ids=tuple(stream.outputs),
        temperature=job.temperature,
        seed=job.seed,
    )
