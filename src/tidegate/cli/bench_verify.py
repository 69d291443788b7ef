"""What `tidegate bench verify` measures, a part at a time; each part can run alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.bench.figures import Figure, Result, machine
from tidegate.bench.prompts import read
from tidegate.cli.bench import AsJson, Only, Prompts, chosen_of, finish
from tidegate.cli.progress import bars
from tidegate.models.cache import Progress

if TYPE_CHECKING:
    from tidegate.bench.verify_honest import Bench

SMOLLM2 = "smollm2"
VOCABULARIES = {"49k": SMOLLM2, "152k": "qwen2.5-coder-0.5b"}
"""Key → packaged model whose logits are scored."""

WORLDS = ("exact", "fp32", "bf16")
"""Noise laws that the campaign runs under."""

SCORED_TOKENS = 96
TURNS = 3
WORK = Path("out/bench-verify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options, and a progress bar."""

    prompts: Path | None
    work: Path
    claims: int
    bf16: int
    progress: Progress


Part = Callable[[Asked], dict[str, Figure]]


def verify(
    as_json: AsJson = False,
    only: Only = None,
    prompts: Prompts = None,
    work: Annotated[
        Path,
        typer.Option(help="Answers and scores are kept here; an interrupted run goes on."),
    ] = WORK,
    tokens: Annotated[
        int,
        typer.Option(min=1024, help="Honest tokens of exact and of fp32; half carry the claim."),
    ] = 66_000,
    bf16_tokens: Annotated[int, typer.Option(min=1024, help="Honest tokens of bf16.")] = 6_144,
) -> None:
    """Re-execution: what honest machines differ by, what can hide in it, and what checking costs.

    Parts: scoring (microseconds a token beside the published functions), honest (match rates and
    noise of pairs of stacks), leak (the bound at a stated false-positive rate), attackers (tokens
    until a cheat is caught), memory (against the length of the record), speed (verifying over
    generating). All together about an hour on two cores.
    """
    chosen = chosen_of(only, PARTS)
    figures: dict[str, Figure] = {}
    with bars() as progress:
        asked = Asked(
            prompts=prompts, work=work, claims=tokens, bf16=bf16_tokens, progress=progress
        )
        for name in chosen:
            figures |= PARTS[name](asked)
    finish(Result("verify", figures), as_json)


def scoring(asked: Asked) -> dict[str, Figure]:
    """Scores beside the published functions, on logits of two real vocabularies."""
    from tidegate.bench import verify_scoring
    from tidegate.models import tokenizer, transformers_torch
    from tidegate.models.prepared import prepare
    from tidegate.models.replay_transformers import TransformersReplay

    text = "\n".join(row.prompt for row in read(asked.prompts)[:8])
    samples = {}
    for key, name in VOCABULARIES.items():
        folder = prepare(name, progress=asked.progress)
        ids = tokenizer.load(folder).encode(text)[: SCORED_TOKENS + 1]
        replay = TransformersReplay(transformers_torch.load(folder, dtype="float32"))
        (logits_TV,) = replay.logits([(ids[:1], ids[1:])])
        samples[key] = verify_scoring.Sample(logits_TV, tuple(ids[1:]))
    return verify_scoring.measure(samples, turns=TURNS, progress=asked.progress)


def honest(asked: Asked) -> dict[str, Figure]:
    """Match rates and noise of every pair of stacks."""
    from tidegate.bench import verify_honest

    bench = _bench(asked)
    for sentence in verify_honest.skipped(bench.engines):
        typer.echo(f"skipped: {sentence}", err=True)
    return verify_honest.honest(bench)


def leak(asked: Asked) -> dict[str, Figure]:
    """The leak bound of each stack."""
    from tidegate.bench import verify_honest

    return verify_honest.leak(_bench(asked))


def attackers(asked: Asked) -> dict[str, Figure]:
    """Tokens until cheats are caught, and the red team's campaign against the bounds."""
    from tidegate.bench import verify_attackers, verify_campaign
    from tidegate.redteam import campaign, worlds

    figures = verify_attackers.attackers(_bench(asked))
    found = campaign.run([worlds.markov(name) for name in WORLDS], progress=asked.progress)
    return figures | verify_campaign.figures(found.results)


def memory(asked: Asked) -> dict[str, Figure]:
    """Memory of the command against the length of the record."""
    from tidegate.bench import verify_memory

    return verify_memory.measure(asked.progress)


def speed(asked: Asked) -> dict[str, Figure]:
    """Verifying over generating."""
    from tidegate.bench import verify_speed
    from tidegate.bench.verify_answers import prompts_of
    from tidegate.bench.verify_engines import BF16, FP32, packaged
    from tidegate.models import tokenizer
    from tidegate.models.cpu import quick_dtype
    from tidegate.models.exact.backends import default_threads
    from tidegate.models.prepared import prepare

    words = tokenizer.load(prepare(SMOLLM2, progress=asked.progress))
    floats = BF16 if quick_dtype() == "bfloat16" else FP32
    if floats == FP32:
        told = "this processor has no bfloat16 instructions: speed is measured in float32"
        typer.echo(f"skipped: {told}", err=True)
    return verify_speed.measure(
        packaged(SMOLLM2, default_threads(), asked.progress),
        words,
        prompts_of(read(asked.prompts), words),
        floats=floats,
        turns=TURNS,
        progress=asked.progress,
    )


PARTS: Mapping[str, Part] = {
    "scoring": scoring,
    "honest": honest,
    "leak": leak,
    "attackers": attackers,
    "memory": memory,
    "speed": speed,
}


def _bench(asked: Asked) -> Bench:
    from tidegate.bench.verify_answers import prompts_of
    from tidegate.bench.verify_engines import packaged
    from tidegate.bench.verify_honest import Bench, Sizes
    from tidegate.bench.verify_work import Work
    from tidegate.clock import SystemClock
    from tidegate.models import tokenizer
    from tidegate.models.exact.backends import default_threads
    from tidegate.models.prepared import prepare

    rows = read(asked.prompts)
    words = tokenizer.load(prepare(SMOLLM2, progress=asked.progress))
    digest = hashlib.sha256("\n".join(row.prompt for row in rows).encode()).hexdigest()
    named = machine()
    return Bench(
        engines=packaged(SMOLLM2, default_threads(), asked.progress),
        prompts=prompts_of(rows, words),
        prompts_hash=f"{len(rows)} packaged prompts, SHA-256 {digest[:16]}",
        work=Work(asked.work),
        sizes=Sizes(claims=asked.claims, bf16=asked.bf16),
        clock=SystemClock(),
        hardware=f"{named['processor']}, {named['cores']} cores",
        progress=asked.progress,
    )
