"""Starts what `tidegate bench serve` measures: direct and linked servers, and an inner half."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tidegate.bench.prompts import Prompt
from tidegate.bench.serve import Cell, Pass, Progress, grow, run_pass
from tidegate.cli import parts
from tidegate.cli.ground import budgets_of, log_as_json, open_ledger, secret_bytes
from tidegate.cli.half_outer import DEMO_KEY, link_engine
from tidegate.cli.purse import LedgerPurse
from tidegate.cli.servers import PATIENCE, Servers
from tidegate.config import Budget, Inner, Link, Models, Outer, Settings
from tidegate.errors import ConfigError
from tidegate.sampling.seed import SeedService
from tidegate.serve.telemetry import Metrics

STREAMS = (1, 8, 32)


def settings_of(models: Models, folder: Path) -> Settings:
    """Both halves over one socket in `folder`, with wide budgets."""
    return Settings(
        models=models,
        link=Link(address=str(folder / "link.sock"), secret_file=folder / "link.secret"),
        outer=Outer(
            port=0,
            demo_key=True,
            key_file=folder / "keys.json",
            seed_key_file=folder / "seed.key",
            ledger=folder / "outer.sqlite",
            max_tokens=2048,
            chunk_interval_ms=0,
            streams_per_principal=2 * max(STREAMS),
        ),
        inner=Inner(ledger=folder / "inner.sqlite"),
        budget=Budget(profile="testing-only"),
    )


def measure_speed(
    models: Models,
    prompts: Sequence[Prompt],
    max_tokens: int,
    repeats: int,
    progress: Progress,
) -> dict[int, list[tuple[Pass, Pass]]]:
    """Alternating passes, direct and linked, by streams. Raises TidegateError."""
    with tempfile.TemporaryDirectory() as name:
        return _passes(models, Path(name), prompts, max_tokens, repeats, progress)


def measure_growth(
    models: Models, prompts: Sequence[Prompt], longest: int, progress: Progress
) -> list[Cell]:
    """The growth table, up to answers of `longest` tokens. Raises TidegateError."""
    with tempfile.TemporaryDirectory() as name:
        return asyncio.run(_grow(models, Path(name) / "grow", prompts, longest, progress))


def _passes(
    models: Models,
    folder: Path,
    prompts: Sequence[Prompt],
    max_tokens: int,
    repeats: int,
    progress: Progress,
) -> dict[int, list[tuple[Pass, Pass]]]:
    linked, direct = (settings_of(models, folder / name) for name in ("linked", "direct"))
    passes: dict[int, list[tuple[Pass, Pass]]] = {streams: [] for streams in STREAMS}
    total = len(STREAMS) * repeats
    with (
        Servers(linked, folder / "linked") as link_servers,
        Servers(direct, folder / "direct", ("direct",)) as direct_servers,
    ):
        urls = (direct_servers.wait_ready(), link_servers.wait_ready())
        for url in urls:  # the first requests pay for what is allocated once
            _pass(url, linked, prompts[:8], 8, 16)
        for done in range(total):
            streams = STREAMS[done % len(STREAMS)]
            progress("passes", done, total)
            # One stream at a time takes long: a part of the prompts is enough. With a few, who
            # happens to start together decides what their first tokens wait for, so it takes many.
            chosen = prompts if streams > 1 else prompts[:8]
            first, second = (_pass(url, linked, chosen, streams, max_tokens) for url in urls)
            passes[streams].append((first, second))
        progress("passes", total, total)
    return passes


def _pass(
    url: str, settings: Settings, prompts: Sequence[Prompt], streams: int, max_tokens: int
) -> Pass:
    model = settings.outer.model_name
    return asyncio.run(run_pass(url, DEMO_KEY, model, prompts, streams, max_tokens))


async def _grow(
    models: Models, folder: Path, prompts: Sequence[Prompt], longest: int, progress: Progress
) -> list[Cell]:
    settings = settings_of(models, folder)
    log_as_json(sys.stderr)  # standard output is the result's
    tokenizer, weak = parts.load_tokenizer(models), parts.weak_model(models)
    lengths = [length for length in (64, 256, 2048) if length <= longest]
    sizes = [(streams, length) for length in lengths for streams in STREAMS]
    chats = [
        tuple(tokenizer.chat([{"role": "user", "content": prompt.prompt}])) for prompt in prompts
    ]
    folder.mkdir(parents=True, exist_ok=True)
    budgets = budgets_of(settings, parts.strong_parameters(models))
    with (
        Servers(settings, folder, ("inner",)) as servers,
        open_ledger(settings.outer.ledger, budgets) as ledger,
    ):
        seeds = SeedService(secret_bytes(settings.outer.seed_key_file))
        purse = LedgerPurse(ledger, settings.budget.zones)
        engine = link_engine(settings, weak, tokenizer, seeds, purse, Metrics())
        async with engine:
            deadline = time.monotonic() + PATIENCE
            while not engine.healthy():
                servers.check()
                if time.monotonic() > deadline:
                    raise ConfigError("the inner half did not come up")
                await asyncio.sleep(0.1)
            pids = (servers.pid("inner"), os.getpid())
            return await grow(engine, engine.totals, chats, pids, sizes=sizes, progress=progress)
