"""What the packaged student saves: bits a token through the coder, beside other weak models.

SmolLM2 answers packaged prompts that neither the student nor the n-gram was made from. The same
tokens go through the link with three weak models: the student mixed with the n-gram, the n-gram
alone, and the strong model with most of its layers left out. That last one is no model to ship,
since it publishes strong weights, and nothing was trained after the cut.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from tidegate.bench import coding, prompts
from tidegate.bench.coding import Tally
from tidegate.bench.coding_figures import PLAIN
from tidegate.bench.figures import Figure, at_most, report
from tidegate.models import mixture, ngram, tokenizer
from tidegate.models.cache import Progress, no_progress
from tidegate.models.cpu import quick_dtype
from tidegate.models.load import load_strong
from tidegate.models.port import Model, ModelInfo
from tidegate.models.prepared import Dtype, prepare

HELD_OUT_EVERY = 5
"""Of the packaged prompts; the student's card was measured on the same."""

MAX_TOKENS = 200
TEMPERATURES = (0.0, 0.7, 1.0)
STUDENT, NGRAM, CUT = "student", "ngram", "cut"

CUT_LAYERS = 22
"""Left out of SmolLM2's 30, which leaves 56.6 M parameters."""

LIMITS = {0.0: 4.7, 1.0: 7.3}
"""Plain bits a token of a student of 56.6 M parameters that was cut and then trained."""

LARGEST = 56_600_000 / 4
LARGEST_BYTES = 40_000_000


def held_out() -> list[prompts.Prompt]:
    """The packaged prompts that nothing was trained on."""
    whole = len((resources.files("tidegate.data") / "prompts.jsonl").read_bytes().splitlines())
    rows = sorted(prompts.load(None, whole, longest=1 << 20), key=lambda row: row.id)
    return rows[::HELD_OUT_EVERY]


def measure(
    *,
    dtype: Dtype | None = None,
    threads: int | None = None,
    max_tokens: int = MAX_TOKENS,
    limit: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Figure]:
    """All figures; `limit` takes fewer prompts. Raises ModelError or IntegrityError.

    The strong model runs on the exact engine, the cut one in `dtype`, by default in what this
    processor is quick at.
    """
    # Imported here: torch takes seconds to load, and whoever asks for help does not need it.
    from tidegate.models.transformers_torch import load

    dtype = dtype or quick_dtype()
    folder = prepare("smollm2", dtype=dtype, progress=progress)
    student = mixture.load()
    weak: dict[str, Model] = {
        STUDENT: student,
        NGRAM: ngram.load(),
        CUT: load(folder, dtype=dtype, threads=threads, skip_layers=CUT_LAYERS),
    }
    tallies = coding.run(
        load_strong("exact:smollm2", threads=threads, progress=progress),
        weak,
        tokenizer.load(folder),
        held_out()[:limit],
        temperatures=TEMPERATURES,
        max_tokens=max_tokens,
        key=secrets.token_bytes(32),
        progress=lambda stage, done, total: progress(f"student: {stage}", done, total),
    )
    return figures(tallies, student.describe(), packaged_bytes())


def packaged_bytes() -> int:
    """What the student adds to the package: its folder and its manifest."""
    with resources.as_file(resources.files("tidegate") / "data") as data:
        manifest = data / mixture.PACKAGED
        folder = data / mixture.read_manifest(manifest).student
        return sum(_size(path) for path in (manifest, *folder.iterdir()))


def _size(path: Path) -> int:
    return path.stat().st_size


def figures(
    tallies: Mapping[tuple[str, float], Tally], info: ModelInfo, size: int
) -> dict[str, Figure]:
    """From tallies by (weak model, temperature) to figures."""
    result = {
        "student.parameters": at_most(
            info.parameters, LARGEST, unit="numbers", n=1, how="network and n-gram counts"
        ),
        "student.bytes": at_most(size, LARGEST_BYTES, unit="bytes", n=1, how="what is packaged"),
    }
    for (name, temperature), tally in tallies.items():
        key = f"{name}.t{temperature:g}".replace(".t0.", ".t0")
        bits = tally.plain() / tally.tokens
        limit = LIMITS.get(temperature) if name == STUDENT else None
        how = f"{PLAIN}; held-out packaged prompts"
        result[f"{key}.plain"] = (
            report(bits, unit="bits/token", n=tally.tokens, how=how)
            if limit is None
            else at_most(bits, limit, unit="bits/token", n=tally.tokens, how=how)
        )
        result[f"{key}.coupled"] = report(
            tally.coupled / tally.tokens,
            unit="bits/token",
            n=tally.tokens,
            how="through the link, seed-coupled",
        )
        if tally.kl:
            result[f"{key}.kl"] = report(
                tally.kl / tally.tokens,
                unit="bits/token",
                n=tally.tokens,
                how="KL(strong || weak) at the sampling temperature",
            )
    for name in dict.fromkeys(name for name, _ in tallies):
        timed = [tally for (other, _), tally in tallies.items() if other == name]
        tokens = sum(tally.timed_tokens for tally in timed)
        if tokens:
            result[f"{name}.tokens_per_s"] = report(
                tokens / sum(tally.weak_seconds for tally in timed),
                unit="tokens/s",
                n=tokens,
                how=f"weak forward passes of {coding.STREAMS} streams",
            )
    return result
