"""Answers of the strong model with its distribution at every token, for training a student.

`python tools/student_answers.py FOLDER [--shard I/N] [--minutes M]` writes parts of a few answers
each, published by rename; a run that was stopped resumes. Beside each token lie the `TOP` largest
log-probabilities at temperature 1 and `TAIL` tokens drawn from what is left, so that a
cross-entropy over the whole vocabulary has an unbiased estimate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from rich.progress import Progress
from student_prompts import prompts

from tidegate.models.cache import publish
from tidegate.models.load import load_strong, load_tokenizer
from tidegate.models.port import F32Array, Model

BATCH = 64
MAX_TOKENS = 200
TOP = 64
TAIL = 8
ANSWERS_A_PART = 32
JUDGE_EVERY = 5  # of the packaged prompts, as for the n-gram
# Half of what is learned is how the strong model speaks at temperature 1, the hardest to predict.
SHARES = ((1.0, 1.0), (0.7, 0.5), (0.0, 0.4))
"""(temperature, share of the prompts answered at it)"""


@dataclass(frozen=True)
class Wanted:
    """One answer; `key` orders answers so that any number of them is a fair sample."""

    prompt: str
    temperature: float
    key: str


@dataclass
class _Running:
    wanted: Wanted
    prompt_ids: list[int]
    noise: np.random.Generator
    ids: list[int] = field(default_factory=list)
    top_ids: list[NDArray[np.uint16]] = field(default_factory=list)
    top_logp: list[NDArray[np.float16]] = field(default_factory=list)
    tail_ids: list[NDArray[np.uint16]] = field(default_factory=list)


def wanted(texts: Sequence[str], shares: Sequence[tuple[float, float]] = SHARES) -> list[Wanted]:
    """What to ask, in the order to ask it."""
    found = []
    for text in texts:
        for temperature, share in shares:
            key = hashlib.sha256(f"{temperature} {text}".encode()).hexdigest()
            chosen = int(hashlib.sha256(f"share {key}".encode()).hexdigest()[:8], 16) / 2**32
            if chosen < share:
                found.append(Wanted(text, temperature, key))
    return sorted(found, key=lambda one: one.key)


def judged() -> list[Wanted]:
    """Held-out packaged prompts, each at every temperature; for judging, never for training."""
    packaged = (resources.files("tidegate") / "data" / "prompts.jsonl").read_text("utf-8")
    texts = [json.loads(line)["prompt"] for line in packaged.splitlines()]
    return wanted(texts[::JUDGE_EVERY], [(temperature, 1.0) for temperature, _ in SHARES])


def answered(folder: Path) -> set[str]:
    """Keys of the answers that lie in a folder."""
    keys: set[str] = set()
    for path in folder.glob("*.keys"):
        keys.update(path.read_text().split())
    return keys


def collect(
    model: Model,
    missing: Sequence[tuple[Wanted, list[int]]],
    folder: Path,
    *,
    until: Callable[[], bool],
    pause_file: Path | None,
) -> Iterator[int]:
    """Answer, and yield the tokens of each step; what is begun is kept when `until` says stop."""
    running: dict[int, _Running] = {}
    numbers = iter(range(len(missing)))
    done: list[_Running] = []
    # Every prompt opens with the same system message: read once, copied ever after.
    shared = _common([prompt_ids for _, prompt_ids in missing])
    if shared:
        model.forward([(len(missing), missing[0][1][:shared])])
    while not until():
        while pause_file is not None and pause_file.exists() and not until():
            time.sleep(2)
        batch: list[tuple[int, Sequence[int]]] = [(n, run.ids[-1:]) for n, run in running.items()]
        while len(batch) < BATCH and (number := next(numbers, None)) is not None:
            one, prompt_ids = missing[number]
            noise = np.random.default_rng(int(one.key[:16], 16))
            running[number] = _Running(one, prompt_ids, noise)
            if shared:
                model.fork(len(missing), number)
            batch.append((number, prompt_ids[shared:]))
        if not batch:
            break
        logits_NV = model.forward(batch)
        for (number, _), logits_V in zip(batch, logits_NV, strict=True):
            run = running[number]
            _extend(run, logits_V)
            if run.ids[-1] in model.eos_ids or len(run.ids) == MAX_TOKENS:
                done.append(run)
                model.drop(number)
                del running[number]
        if len(done) >= ANSWERS_A_PART:
            _write(folder, done)
            done = []
        yield len(batch)
    done += [run for run in running.values() if run.ids]
    if done:
        _write(folder, done)


def _common(prompts_ids: Sequence[Sequence[int]]) -> int:
    """With how many equal tokens all prompts begin; each has more."""
    shared = 0
    for column in zip(*prompts_ids, strict=False):
        if len(set(column)) > 1:
            return shared
        shared += 1
    return max(0, shared - 1)


def _extend(run: _Running, logits_V: F32Array) -> None:
    weights_V = np.exp(logits_V - logits_V.max())
    total = float(weights_V.sum(dtype=np.float64))
    temperature = run.wanted.temperature
    if temperature == 0:
        token = int(logits_V.argmax())
    elif temperature == 1:
        token = _draw(weights_V, run.noise.random(1))[0]
    else:
        token = _draw(weights_V ** np.float32(1 / temperature), run.noise.random(1))[0]
    top_K = np.argpartition(weights_V, -TOP)[-TOP:]
    top_K = top_K[np.argsort(-weights_V[top_K], kind="stable")]
    run.ids.append(int(token))
    run.top_ids.append(top_K.astype(np.uint16))
    run.top_logp.append(np.log(weights_V[top_K] / total).clip(-60000, 0).astype(np.float16))
    weights_V[top_K] = 0
    run.tail_ids.append(_draw(weights_V, run.noise.random(TAIL)).astype(np.uint16))


def _draw(weights_V: F32Array, uniform_N: NDArray[np.float64]) -> NDArray[np.int64]:
    total_V = weights_V.cumsum(dtype=np.float64)
    found_N = total_V.searchsorted(uniform_N * total_V[-1], "right")
    return np.minimum(found_N, len(total_V) - 1)


def _write(folder: Path, runs: Sequence[_Running]) -> None:
    arrays = {
        "temperatures": np.array([run.wanted.temperature for run in runs], np.float32),
        "prompt_lengths": np.array([len(run.prompt_ids) for run in runs], np.int32),
        "lengths": np.array([len(run.ids) for run in runs], np.int32),
        "prompt_ids": np.concatenate([np.array(run.prompt_ids, np.uint16) for run in runs]),
        "ids": np.concatenate([np.array(run.ids, np.uint16) for run in runs]),
        "top_ids": np.concatenate([np.stack(run.top_ids) for run in runs]),
        "top_logp": np.concatenate([np.stack(run.top_logp) for run in runs]),
        "tail_ids": np.concatenate([np.stack(run.tail_ids) for run in runs]),
    }
    name = hashlib.sha256("".join(run.wanted.key for run in runs).encode()).hexdigest()[:16]
    making = folder / f"{name}.making"
    making.write_bytes(safetensors.numpy.save(arrays))
    publish(making, folder / f"{name}.safetensors")
    making.write_text("\n".join(run.wanted.key for run in runs))
    publish(making, folder / f"{name}.keys")


def read_part(path: Path) -> Mapping[str, NDArray[np.generic]]:
    """The arrays of one part."""
    return safetensors.numpy.load(path.read_bytes())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strong", default="exact:smollm2", help="a model's name or folder")
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th answer from the I-th")
    parser.add_argument("--judged", action="store_true", help="answer the held-out prompts")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pause-file", type=Path, help="wait while this file exists")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model = load_strong(options.strong, dtype="float32", threads=options.threads)
    words = load_tokenizer(options.strong)
    shard, shards = map(int, options.shard.split("/"))
    have = answered(options.folder)
    missing = [
        (one, words.chat([{"role": "user", "content": one.prompt}]))
        for one in (judged() if options.judged else wanted(prompts()))
        if one.key not in have and int(one.key[-8:], 16) % shards == shard
    ]
    stop = time.monotonic() + 60 * options.minutes
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    with Progress() as shown:
        task = shown.add_task(f"answering {len(missing)}", total=None)
        for tokens in collect(
            model,
            missing,
            options.folder,
            until=lambda: bool(asked_to_stop) or time.monotonic() > stop,
            pause_file=options.pause_file,
        ):
            shown.update(task, advance=tokens, description=f"{shown.tasks[0].completed} tokens")


if __name__ == "__main__":
    main()
