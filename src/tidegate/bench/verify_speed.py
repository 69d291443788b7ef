"""What verifying costs beside generating: the same tokens, on the same stack, taking turns.

Answers are generated eight at a time, prompts included, and then re-executed one by one as
`tidegate verify` does it: forced passes, scores, and the finish rules.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import islice

from tidegate.bench.figures import Figure, at_most
from tidegate.bench.verify_answers import Job, Pool, generate, jobs
from tidegate.bench.verify_engines import EXACT, Engines
from tidegate.bench.verify_work import Answer
from tidegate.errors import ModelError
from tidegate.models.cache import Progress
from tidegate.models.port import Model, Tokenizer
from tidegate.models.replay_port import Replay
from tidegate.record.entries import Reason
from tidegate.sampling.params import SamplingParams
from tidegate.verify.replay_answer import Rule, Task, recheck

BATCH = 8
TOKENS = 192
"""Of each answer, unless it ends before."""

MOST = 0.25
RULE = Rule(margin=0.05, rank=8, suspicious=0.01, dangerous=0.001)
"""What is computed does not depend on these numbers."""


def measure(
    engines: Engines,
    words: Tokenizer,
    prompts: Sequence[tuple[str, tuple[int, ...]]],
    *,
    floats: str,
    turns: int,
    tokens: int = TOKENS,
    progress: Progress,
) -> dict[str, Figure]:
    """Ratios of the stack `floats` and of the exact one."""
    names = (floats, EXACT)
    ratios: dict[str, list[float]] = {name: [] for name in names}
    told: dict[str, str] = {}
    done = 0
    for turn in range(turns):
        for name in names:
            progress("verify and generate", done, turns * len(names))
            done += 1
            waiting = jobs(Pool(name=name, engine=name, batch=BATCH, tokens=1), prompts, 1.0, 0)
            chosen = list(islice(waiting, turn * BATCH, (turn + 1) * BATCH))
            generating, verifying, count = _turn(
                engines.model(name), engines.replay(name), words, chosen, tokens
            )
            ratios[name].append(verifying / generating)
            told[name] = (
                f"{count} tokens a turn on {name}, the last at {1e3 * generating / count:.2f} ms "
                f"to generate and {1e3 * verifying / count:.2f} ms to verify"
            )
    progress("verify and generate", done, done)
    figures = {f"verify_over_generate.{name}": _figure(ratios[name], told[name]) for name in names}
    figures["verify_over_generate"] = figures[f"verify_over_generate.{floats}"]
    return figures


def _figure(ratios: Sequence[float], told: str) -> Figure:
    return at_most(
        statistics.median(ratios),
        MOST,
        unit="ratio",
        n=len(ratios),
        how=f"batch {BATCH}, prompts included; {told}; median of turns, {min(ratios):.3f} to "
        f"{max(ratios):.3f}",
    )


def _turn(
    model: Model, replay: Replay, words: Tokenizer, chosen: Sequence[Job], tokens: int
) -> tuple[float, float, int]:
    """Seconds to generate, seconds to verify, tokens."""
    start = time.perf_counter()
    answers = generate(model, chosen, batch=BATCH, tokens=BATCH * tokens, max_tokens=tokens)
    middle = time.perf_counter()
    checked = [recheck(_task(n, one, model), replay, words, RULE) for n, one in enumerate(answers)]
    end = time.perf_counter()
    if any(one.findings for one in checked):
        raise ModelError(f"an honest answer did not verify: {checked[0].findings}")
    return middle - start, end - middle, sum(one.tokens for one in checked)


def _task(number: int, answer: Answer, model: Model) -> Task:
    ended = answer.output_ids[-1] in model.eos_ids
    return Task(
        response=number,
        digest=b"",
        prompt=answer.prompt_ids,
        tokens=answer.output_ids,
        seed=answer.seed,
        params=SamplingParams(temperature=answer.temperature).canonical(),
        max_tokens=len(answer.output_ids),
        ignore_eos=False,
        stop=(),
        reason=Reason.STOP if ended else Reason.LENGTH,
    )
