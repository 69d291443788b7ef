"""What `tidegate bench capacity` measures: processor time and bytes of each stage, for planning."""

from __future__ import annotations

import asyncio
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.bench.figures import Figure, Result
from tidegate.cli import parts
from tidegate.cli.bench import AsJson, Only, Prompts, chosen_of, finish
from tidegate.cli.progress import bars
from tidegate.config import Models, Record
from tidegate.models.cache import Progress

if TYPE_CHECKING:
    from tidegate.bench.capacity import Used
    from tidegate.bench.prompts import Prompt

PARTS = ("kernels", "halves")
STEPS = 8
SHORT, LONG = 8, 64
"""Tokens of the two passes' answers."""


def capacity(
    as_json: AsJson = False,
    only: Only = None,
    prompts: Prompts = None,
    count: Annotated[int, typer.Option(min=2, help="How many prompts.")] = 24,
) -> None:
    """Processor time and bytes of each stage; `tidegate plan capacity --measured` takes the JSON.

    Parts: kernels (sampling and both ends of coding, on SmolLM2 and on Qwen2.5-Coder 0.5B with two
    layers less as its weak model) and halves (an outer half asked over HTTP).
    """
    from tidegate.bench.prompts import load

    chosen = load(prompts, count, longest=600)
    figures: dict[str, Figure] = {}
    with bars() as progress:
        for name in chosen_of(only, PARTS):
            measure = {"kernels": _kernels, "halves": _halves}[name]
            figures |= measure(chosen, progress)
    finish(Result("capacity", figures), as_json)


def _kernels(prompts: Sequence[Prompt], progress: Progress) -> dict[str, Figure]:
    from tidegate.bench import capacity as bench
    from tidegate.bench.weaken import weaker

    small = parts.pair("smollm2")
    parts.fetch_all(small, progress)
    words = parts.load_tokenizer(small)
    rows = bench.rows_of(parts.strong_model(small), parts.weak_model(small), words, prompts, STEPS)
    found = bench.kernels(rows, "49k") | {"ngram_us": bench.weak_figure(rows)}
    name = "qwen2.5-coder-0.5b"
    wide = small.model_copy(update={"strong": name, "weak": name, "weak_dtype": small.dtype})
    parts.fetch_all(wide, progress)
    weak = next(iter(weaker(wide, progress).values()))
    words = parts.load_tokenizer(wide)
    rows = bench.rows_of(parts.strong_model(wide), weak, words, prompts, STEPS)
    return found | bench.kernels(rows, "152k")


def _halves(prompts: Sequence[Prompt], progress: Progress) -> dict[str, Figure]:
    from tidegate.bench import capacity as bench

    models = parts.pair("smollm2")
    parts.fetch_all(models, progress)
    with tempfile.TemporaryDirectory() as folder:
        short, long = _passes(Path(folder), models, prompts, progress)
        row = bench.ledger_figure(Path(folder))
    return bench.halves(short, long) | {"ledger_row_bytes": row}


def _passes(
    folder: Path, models: Models, prompts: Sequence[Prompt], progress: Progress
) -> tuple[Used, Used]:
    from tidegate.bench.capacity import Used, processor_seconds
    from tidegate.bench.serve import run_pass
    from tidegate.cli.bench_serve import settings_of
    from tidegate.cli.half_outer import DEMO_KEY
    from tidegate.cli.servers import Servers

    made = settings_of(models, folder)
    record = Record(folder=folder / "record", key_file=folder / "record.key")
    settings = made.model_copy(update={"record": record})

    def ask(url: str, length: int) -> int:
        asked = run_pass(url, DEMO_KEY, settings.outer.model_name, prompts, 24, length)
        return asyncio.run(asked).tokens

    with Servers(settings, folder) as servers:
        url = servers.wait_ready()
        outer, inner = servers.pid("outer"), servers.pid("inner")

        def state() -> tuple[float, float, int, int]:
            return (
                processor_seconds(outer),
                processor_seconds(inner, main_thread=True),
                sum(file.stat().st_size for file in _record_files(folder / "record")),
                _uploaded(url),
            )

        ask(url, SHORT)  # what is allocated once
        used = []
        for n, length in enumerate((SHORT, LONG)):
            progress("passes", n, 2)
            before = state()
            tokens = ask(url, length)
            after = state()
            grown = [late - early for early, late in zip(before, after, strict=True)]
            used.append(Used(len(prompts), tokens, *grown))
        progress("passes", 2, 2)
    return used[0], used[1]


def _record_files(folder: Path) -> list[Path]:
    """Every file of a record."""
    return [path for path in folder.rglob("*") if path.is_file()]


def _uploaded(url: str) -> int:
    """Bits charged so far, as the outer half's metrics have them."""
    from tidegate.cli.half_outer import DEMO_KEY

    asked = urllib.request.Request(  # noqa: S310  our own server, on this host
        url.removesuffix("/v1") + "/metrics", headers={"Authorization": f"Bearer {DEMO_KEY}"}
    )
    with urllib.request.urlopen(asked) as reply:  # noqa: S310
        lines = reply.read().decode().splitlines()
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in lines
        if line.startswith("tidegate_upload_bits_total{")
    )
