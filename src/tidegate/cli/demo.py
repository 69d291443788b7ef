"""`tidegate demo`: real prompts through both halves, and what it cost."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidegate.bench.prompts import load as load_prompts
from tidegate.cli import parts
from tidegate.cli.demo_ask import Reply, ask_all
from tidegate.cli.demo_rows import DAY, Account, Model, Row, exfiltration
from tidegate.cli.demo_table import show
from tidegate.cli.progress import bars
from tidegate.cli.record import Answer
from tidegate.cli.record import read as read_answers
from tidegate.cli.servers import SETTINGS, Servers
from tidegate.clock import SystemClock
from tidegate.config import Inner, Link, Models, Outer, Settings
from tidegate.errors import ConfigError, TidegateError
from tidegate.ledger import TOTAL, Ledger, SqliteStore, profile
from tidegate.models.port import Tokenizer
from tidegate.models.prepared import manifest_of, prepare
from tidegate.serve.inner.measure import SHARPNESS
from tidegate.serve.inner.measure import Row as Measured
from tidegate.serve.inner.measure import read as read_measured

TEMPERATURES = {"smollm2": (0.0, 0.7), "qwen": (0.0, 0.7, 1.0)}
"""SmolLM2-135M is near gibberish at T = 1."""


def demo(
    pair: Annotated[
        str, typer.Option(help="smollm2 (default), or qwen for the real pair.")
    ] = "smollm2",
    prompts: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 24,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64,
    concurrency: Annotated[
        int, typer.Option(min=1, max=Link().max_streams, help="Requests under way at once.")
    ] = 12,
    folder: Annotated[
        Path, typer.Option(help="For sockets, logs, ledgers and the report; made anew.")
    ] = Path("out/demo"),
) -> None:
    """Send real prompts through the upload-limited link, and show what crossed.

    Starts the inner half (with the weights) and the outer half (without) as two processes and asks
    the outer one with the official OpenAI client, streaming, several requests at once. Exits 0
    only if every answer was decoded exactly.
    """
    console = Console()
    models = parts.pair(pair)
    settings = _settings(models, folder, max_tokens)
    _empty(folder)
    with bars() as progress:
        parts.fetch_all(models, progress)
        tokenizer = parts.load_tokenizer(models)
        chosen = load_prompts(None, prompts, longest=600)
        with Servers(settings, folder) as servers:
            progress("starting both halves", 0, 1)
            url = servers.wait_ready()
            progress("starting both halves", 1, 1)
            asked = [
                (prompt, TEMPERATURES[pair][i % len(TEMPERATURES[pair])])
                for i, prompt in enumerate(chosen)
            ]
            start = time.monotonic()
            replies = asyncio.run(
                ask_all(
                    url,
                    settings.outer.model_name,
                    asked,
                    max_tokens=max_tokens,
                    concurrency=concurrency,
                    progress=lambda done: progress("answers", done, len(asked)),
                )
            )
            elapsed = time.monotonic() - start
    rows = _rows(settings, tokenizer, replies)
    model = _model(models, tokenizer)
    account = _account(settings)
    leak = exfiltration(rows, elapsed, model.weight_bytes, account.a_day)
    show(console, model, rows, account, leak)
    # Imported here: it needs the plots' library, and the table should not wait for it.
    from tidegate.cli.demo_report import write

    report = folder / "report.html"
    write(report, model, rows, account, leak)
    console.print(f"report: {report}")
    raise typer.Exit(0 if len(rows) == prompts and all(row.exact for row in rows) else 1)


def _empty(folder: Path) -> None:
    """Remove an earlier demo's folder, and no other. Raises ConfigError or OSError."""
    if not folder.exists():
        return
    ours = not any(folder.iterdir()) or (folder / SETTINGS).exists()
    if not ours or folder.samefile(Path()):
        raise ConfigError(f"{folder} holds something else than an earlier demo; choose another")
    shutil.rmtree(folder)


def _settings(models: Models, folder: Path, max_tokens: int) -> Settings:
    return Settings(
        models=models,
        link=Link(address=str(folder / "link.sock"), secret_file=folder / "link.secret"),
        outer=Outer(
            port=0,
            demo_key=True,
            max_tokens=max(max_tokens, Outer().max_tokens),
            key_file=folder / "keys.json",
            seed_key_file=folder / "seed.key",
            ledger=folder / "outer-ledger.sqlite",
            record=folder / "answers.jsonl",
        ),
        inner=Inner(
            ledger=folder / "inner-ledger.sqlite", measurements=folder / "measurements.jsonl"
        ),
    )


def _rows(settings: Settings, tokenizer: Tokenizer, replies: list[Reply]) -> list[Row]:
    """One row a reply; exact where inside and outside wrote down the same tokens and their text."""
    record, measurements = settings.outer.record, settings.inner.measurements
    if record is None or measurements is None:
        raise TidegateError("the demo's settings name no records")
    answers = {answer.request_id: answer for answer in read_answers(record)}
    measured = read_measured(measurements)
    truths: dict[float, list[Measured]] = {}
    for reply in replies:
        answer = answers.get(reply.request_id)
        if answer is not None and answer.seed in measured:
            truths.setdefault(reply.temperature, []).append(measured[answer.seed])
    # The plain peer has one temperature of its own for each the answers were drawn at.
    best = {
        t: min(range(len(SHARPNESS)), key=lambda i: sum(row.plain[i] for row in rows))
        for t, rows in truths.items()
    }
    return [
        _row(
            reply,
            answers.get(reply.request_id),
            measured,
            best.get(reply.temperature, 0),
            tokenizer,
        )
        for reply in replies
    ]


def _row(
    reply: Reply,
    answer: Answer | None,
    measured: dict[str, Measured],
    best: int,
    tokenizer: Tokenizer,
) -> Row:
    # Imported here, as the report is: only the demo compresses text.
    import zstandard

    truth = measured.get(answer.seed) if answer is not None else None
    text = reply.text.encode()
    spoken = [token for token in answer.tokens if token not in tokenizer.eos_ids] if answer else []
    exact = (
        answer is not None
        and truth is not None
        and answer.tokens == truth.tokens
        and reply.text == tokenizer.decode(spoken)
    )
    return Row(
        prompt_id=reply.prompt.id,
        category=reply.prompt.category,
        temperature=reply.temperature,
        tokens=len(answer.tokens) if answer else 0,
        text_bytes=len(text),
        zstd=8 * len(zstandard.ZstdCompressor(level=19).compress(text)),
        link=answer.bits if answer else 0,
        plain=truth.plain[best] if truth else 0.0,
        kl=truth.kl if truth else 0.0,
        exact=exact,
        seconds=reply.seconds,
        first_token_seconds=reply.first_token_seconds,
    )


def _model(models: Models, tokenizer: Tokenizer) -> Model:
    manifest = manifest_of(prepare(models.strong, dtype=models.dtype), frozenset())
    weak = parts.weak_model(models)
    info = weak.describe()
    return Model(
        strong=parts.title(models.strong),
        weak=info.name,
        vocab_size=weak.vocab_size,
        weight_bytes=2 * manifest.parameters,
        weak_card=parts.weak_card(models, info),
    )


def _account(settings: Settings) -> Account:
    parameters = parts.strong_parameters(settings.models)
    budget = settings.budget
    budgets = profile(budget.profile, parameters=parameters, zones=budget.zones)
    ledger = Ledger(SqliteStore(settings.outer.ledger), budgets, SystemClock())
    balance = ledger.balance(TOTAL)
    return Account(
        profile=budget.profile,
        spent=balance.spent,
        left=balance.left,
        a_day=next((w.bits for w in budgets.total.windows if w.seconds == DAY), None),
    )
