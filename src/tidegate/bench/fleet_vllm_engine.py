"""The side of `bench fleet --only vllm` that runs in vLLM's environment, as a process of its own.

It reads one JSON object from standard input and writes JSON lines to the file descriptor it is
given: progress, then the result. vLLM itself writes where it likes.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final, TextIO

import msgspec

BATCH: Final = 16


class Asked(msgspec.Struct, frozen=True):
    """One answer to give. `args` are the plug-in's arguments, `stock` those of vLLM's sampler."""

    prompt: list[int]
    max_tokens: int
    args: dict[str, Any] = {}
    stock: dict[str, float] = {}


class Work(msgspec.Struct, frozen=True):
    """What to do: answers to give, and pairs of passes to time, stock sampler and plug-in."""

    folder: str
    max_context: int
    answers: list[Asked]
    pairs: dict[str, tuple[list[Asked], list[Asked]]]
    repeats: int


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is written: how far it is, or at the end the result."""

    stage: str = ""
    done: int = 0
    total: int = 0
    version: str = ""
    tokens: list[list[int]] = []
    seconds: dict[str, list[tuple[float, float]]] = {}
    """By setting: the stock sampler's pass and the plug-in's, in alternation."""


class Engine:
    """A vLLM engine in this process, sixteen sequences at a time."""

    def __init__(self, work: Work) -> None:
        # Imported here: the settings of the process have to be there first.
        from vllm import LLM

        self._llm = LLM(
            work.folder,
            dtype="float32",
            enforce_eager=True,
            max_model_len=work.max_context,
            max_num_seqs=BATCH,
            disable_log_stats=True,
        )

    def answer(self, asked: list[Asked]) -> list[list[int]]:
        """The tokens of each answer, as many as were asked for: no end token ends one."""
        from vllm import SamplingParams

        params: list[Any] = [
            SamplingParams(
                max_tokens=one.max_tokens,
                ignore_eos=True,
                detokenize=False,
                extra_args=one.args or None,
                **(one.stock if one.stock else {"temperature": 0.0}),
            )
            for one in asked
        ]
        prompts = [{"prompt_token_ids": one.prompt} for one in asked]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]


def run(work: Work, out: TextIO) -> None:
    """Do `work`, and say so line by line."""

    def say(line: Line) -> None:
        out.write(msgspec.json.encode(line).decode() + "\n")
        out.flush()

    say(Line(stage="vLLM starts", total=1))
    engine = Engine(work)
    tokens: list[list[int]] = []
    while len(tokens) < len(work.answers):
        tokens += engine.answer(work.answers[len(tokens) : len(tokens) + 4 * BATCH])
        say(Line(stage="vLLM answers", done=len(tokens), total=len(work.answers)))
    seconds: dict[str, list[tuple[float, float]]] = {}
    for name, (stock, ours) in work.pairs.items():
        # The first pass of each kind reads the prompts and warms what is compiled or cached.
        engine.answer(stock)
        engine.answer(ours)
        seconds[name] = []
        for number in range(work.repeats):
            seconds[name].append((_timed(engine, stock), _timed(engine, ours)))
            say(Line(stage=f"timing {name}", done=number + 1, total=work.repeats))
    from vllm import __version__

    say(Line(version=__version__, tokens=tokens, seconds=seconds))


def _timed(engine: Engine, asked: list[Asked]) -> float:
    begun = time.perf_counter()
    engine.answer(asked)
    return time.perf_counter() - begun


def main() -> None:
    """`python -m tidegate.bench.fleet_vllm_engine FD`, the work on standard input."""
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=Work)
    with os.fdopen(int(sys.argv[1]), "w") as out:
        run(work, out)


if __name__ == "__main__":
    main()
