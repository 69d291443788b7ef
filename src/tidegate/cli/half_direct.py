"""The strong model served without a link, for the benchmark to compare with."""

from __future__ import annotations

from collections.abc import Callable

from tidegate.bench.direct import DirectEngine
from tidegate.cli import parts
from tidegate.cli.ground import secret_bytes
from tidegate.cli.half_outer import keyring, serve_api
from tidegate.cli.stopping import Stopping
from tidegate.clock import SystemClock
from tidegate.config import Settings
from tidegate.ledger import Ledger, MemoryStore, profile
from tidegate.sampling.seed import SeedService
from tidegate.serve.inner.reasoning import ReasoningStore
from tidegate.serve.telemetry import Metrics


async def run_direct(settings: Settings, stop: Stopping, ready: Callable[[int], None]) -> None:
    """Serve the API straight from the strong model until `stop`. Raises TidegateError."""
    keys = keyring(settings)
    tokenizer = parts.load_tokenizer(settings.models)
    strong = parts.strong_model(settings.models)
    ledger = Ledger(MemoryStore(), profile("testing-only", parameters=1), SystemClock())
    engine = DirectEngine(
        strong,
        tokenizer,
        SeedService(secret_bytes(settings.outer.seed_key_file)),
        ReasoningStore(SystemClock()),
        slots=settings.link.max_streams,
    )
    async with engine:
        await serve_api(
            settings,
            engine,
            tokenizer,
            keys,
            ledger,
            Metrics(),
            context_length=parts.context_length(settings.models),
            vocab_size=strong.vocab_size,
            stop=stop,
            ready=ready,
        )
