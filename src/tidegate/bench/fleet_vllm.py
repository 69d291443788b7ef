"""The vLLM plug-in: its sequences beside ours, its cost beside vLLM's own sampler.

vLLM runs in an environment and a process of its own (`fleet_vllm_engine`). Its answers are read
here by a float32 transformers model in one forced pass each: an answer equals ours where at every
position our sampler, on our logits of the same tokens before it, takes the same token.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec
import torch

from tidegate.bench.figures import Figure, at_least, at_most
from tidegate.bench.fleet import Options
from tidegate.bench.fleet_vllm_engine import BATCH, Asked, Line, Work
from tidegate.bench.prompts import load
from tidegate.errors import ConfigError, EngineError
from tidegate.models import tokenizer, transformers_torch
from tidegate.models.cache import Progress
from tidegate.models.draw import Drawer, Row
from tidegate.models.prepared import prepare
from tidegate.models.replay_port import Replay
from tidegate.models.replay_transformers import TransformersReplay
from tidegate.models.vllm_contract import UNSEEDED_VARIABLE, Draw, extra_args
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService, prompt_digest

MODEL: Final = "smollm2"
PROMPTS: Final = 200
LONGEST: Final = 300
"""Characters of a prompt."""
TOKENS: Final = 12
TIMED_TOKENS: Final = 32
REPEATS: Final = 9
MAX_CONTEXT: Final = 512
SETTINGS: Final = {
    "greedy": SamplingParams(temperature=0.0),
    "T 0.7, top-p 0.9": SamplingParams(temperature=0.7, top_p=0.9),
    "T 0.7, top-k 40": SamplingParams(temperature=0.7, top_k=40),
    "T 1, top-p 0.95, top-k 50": SamplingParams(top_p=0.95, top_k=50),
    "T 1": SamplingParams(),
}
TIMED: Final = ("T 0.7, top-p 0.9", "T 1")
"""What filters cost most in both samplers, and what costs the stock sampler least."""

_KEY: Final = b"bench fleet: seeds need not be secret here"


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt at one setting."""

    prompt: tuple[int, ...]
    draw: Draw

    def asked(self, max_tokens: int) -> Asked:
        return Asked(list(self.prompt), max_tokens, args=dict(extra_args(self.draw)))

    def left_to_vllm(self, max_tokens: int) -> Asked:
        params = self.draw.params
        stock = {"temperature": params.temperature, "top_p": params.top_p}
        return Asked(list(self.prompt), max_tokens, stock=stock)


def measure(progress: Progress, options: Options) -> dict[str, Figure]:
    """`vllm_equal_sequences` and `vllm_overhead`.

    Raises ConfigError without vLLM's Python, EngineError where vLLM fails.
    """
    python = _python(options)
    folder = prepare(MODEL, dtype="float32", progress=progress)
    answers = _answers(folder)
    timed = {name: _of(answers, name)[:BATCH] for name in TIMED}
    work = Work(
        folder=str(folder),
        max_context=MAX_CONTEXT,
        answers=[one.asked(TOKENS) for one in answers],
        pairs={
            name: (
                [one.left_to_vllm(TIMED_TOKENS) for one in some],
                [one.asked(TIMED_TOKENS) for one in some],
            )
            for name, some in timed.items()
        },
        repeats=REPEATS,
    )
    result = run_engine(python, work, progress)
    replay = TransformersReplay(transformers_torch.load(folder, dtype="float32"))
    equal = equal_answers(replay, answers, result.tokens, progress)
    overheads = {
        name: statistics.median(ours / stock - 1 for stock, ours in pairs)
        for name, pairs in result.seconds.items()
    }
    worst = max(overheads, key=lambda name: overheads[name])
    each = "; ".join(f"{name}: {over:+.1%}" for name, over in overheads.items())
    return {
        "vllm_equal_sequences": at_least(
            equal / len(answers),
            1.0,
            unit="share",
            n=len(answers),
            how=f"answers of {TOKENS} tokens by vLLM {result.version} with the plug-in, {MODEL} in "
            f"float32, {PROMPTS} prompts at {', '.join(SETTINGS)}, whose every token our sampler "
            "takes from transformers' logits",
        ),
        "vllm_overhead": at_most(
            overheads[worst],
            0.10,
            unit="of the stock sampler's time",
            n=REPEATS,
            how=f"{BATCH} sequences of {TIMED_TOKENS} tokens in one vLLM, plug-in over stock "
            f"sampler in alternation, medians of {REPEATS} pairs, the worst of: {each}",
        ),
    }


def _python(options: Options) -> Path:
    if options.vllm_python is None:
        raise ConfigError(
            "This part needs an environment with vLLM. Make one with `python "
            "tools/vllm_environment.py FOLDER` (some minutes, 3.4 GB) and name its Python in "
            "--vllm-python or TIDEGATE_VLLM_PYTHON."
        )
    return options.vllm_python


def _answers(folder: Path) -> list[Answer]:
    """Every prompt at every setting, the settings of one prompt in a row."""
    words = tokenizer.load(folder)
    seeds = SeedService(_KEY)
    answers = []
    for prompt in load(None, PROMPTS, longest=LONGEST):
        ids = tuple(words.chat([{"role": "user", "content": prompt.prompt}]))
        for params in SETTINGS.values():
            seed = seeds.derive(
                request_id=prompt.id,
                prompt_hash=prompt_digest(ids),
                params=params,
                attempt=0,
                user_seed=None,
                choice=0,
            )
            answers.append(Answer(ids, Draw(params=params, seed=seed)))
    return answers


def _of(answers: Sequence[Answer], name: str) -> list[Answer]:
    return [one for one in answers if one.draw.params == SETTINGS[name]]


def run_engine(python: Path, work: Work, progress: Progress) -> Line:
    """The result of `work`, done by `fleet_vllm_engine` under that Python.

    Raises ConfigError where it cannot be started, EngineError with its last words where it fails.
    """
    reading, writing = os.pipe()
    environment = os.environ | {
        UNSEEDED_VARIABLE: "allow",
        # One process, so that nothing but the sampler differs between passes.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(  # noqa: S603
                [str(python), "-m", "tidegate.bench.fleet_vllm_engine", str(writing)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                pass_fds=(writing,),
                env=environment,
            )
        except OSError as error:
            os.close(reading)
            raise ConfigError(f"cannot start {python}: {error}", file=str(python)) from error
        finally:
            os.close(writing)
        with process, os.fdopen(reading, "rb") as lines:
            # One that dies at once does not read; its last words say why.
            with suppress(BrokenPipeError):
                if process.stdin is not None:
                    process.stdin.write(msgspec.json.encode(work))
                    process.stdin.close()
            result = _follow(lines, progress)
        if result is None:
            raise EngineError(f"vLLM failed: {_last(said)}", exit_code=process.returncode)
    return result


def _follow(lines: IO[bytes], progress: Progress) -> Line | None:
    for text in lines:
        line = msgspec.json.decode(text, type=Line)
        if line.version:
            return line
        progress(line.stage, line.done, line.total)
    return None


def _last(said: IO[bytes]) -> str:
    said.seek(0)
    words = said.read().decode(errors="replace").strip().splitlines()
    return " / ".join(words[-3:]) or "it said nothing"


def equal_answers(
    replay: Replay,
    answers: Sequence[Answer],
    tokens: Sequence[Sequence[int]],
    progress: Progress,
) -> int:
    """How many answers our sampler gives too, on the replay's logits of the same tokens."""
    drawer = Drawer(replay.vocab_size)
    equal = 0
    for number, (answer, output) in enumerate(zip(answers, tokens, strict=True)):
        (logits_TV,) = replay.logits([(answer.prompt, output)])
        rows = [Row(answer.draw.params, answer.draw.seed, place) for place in range(len(output))]
        ours = drawer.tokens(torch.from_numpy(logits_TV), rows).tolist()
        equal += ours == list(output) and len(output) == TOKENS
        progress("reading vLLM's answers", number + 1, len(answers))
    return equal
