"""The inner half, built from settings and run until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from tidegate.cli import parts
from tidegate.cli.ground import host_port, open_ledger, secret_bytes
from tidegate.cli.purse import LedgerAllowance
from tidegate.clock import SystemClock
from tidegate.config import Inner, Settings
from tidegate.errors import ConfigError
from tidegate.ledger.budgets import edge_between
from tidegate.models.port import Tokenizer
from tidegate.serve.inner.engine import InnerEngine
from tidegate.serve.inner.measure import Measurer
from tidegate.serve.inner.reasoning import ReasoningStore, Thinking
from tidegate.serve.inner.review import ReviewServer
from tidegate.serve.inner.server import InnerServer

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def run_inner(settings: Settings, stop: asyncio.Event) -> None:
    """Serve the link until `stop`. Raises TidegateError before the first connection."""
    models = settings.models
    tokenizer = parts.load_tokenizer(models)
    strong, weak = parts.strong_model(models), parts.weak_model(models)
    ledger = open_ledger(settings.inner.ledger, settings, strong.describe().parameters)
    zones = settings.budget.zones
    observer = None
    if settings.inner.measurements is not None:
        observer = Measurer(settings.inner.measurements)
        strong, weak = observer.strong(strong), observer.weak(weak)
    reviewers = _digests(settings.inner.reviewers)
    store = ReasoningStore(SystemClock(), reviewers=reviewers)
    engine = InnerEngine(
        strong,
        weak,
        tokenizer,
        store,
        slots=settings.link.max_streams,
        thinking=_thinking(settings.inner, tokenizer),
        observer=observer,
    )
    allowance = LedgerAllowance(ledger, "link", edge_between(*zones[:2]))
    server = InnerServer(engine, secret_bytes(settings.link.secret_file), allowance)
    try:
        async with contextlib.AsyncExitStack() as stack:
            if reviewers:
                review = ReviewServer(store, tokenizer.decode)
                address = settings.inner.review_address
                await stack.enter_async_context(await _listen_unix(address, review.handle))
            await stack.enter_async_context(await _listen(settings.link.address, server.handle))
            await stop.wait()
    finally:
        server.close()
        allowance.close()


def _thinking(inner: Inner, tokenizer: Tokenizer) -> Thinking | None:
    if inner.reasoning_start is None and inner.reasoning_end is None:
        return None
    if not (inner.reasoning_start and inner.reasoning_end):
        raise ConfigError("reasoning needs both delimiters, reasoning_start and reasoning_end")
    return Thinking(
        tuple(tokenizer.encode(inner.reasoning_start)),
        tuple(tokenizer.encode(inner.reasoning_end)),
        inner.reasoning_tokens,
    )


def _digests(reviewers: tuple[str, ...]) -> tuple[bytes, ...]:
    try:
        return tuple(bytes.fromhex(digest) for digest in reviewers)
    except ValueError as error:
        raise ConfigError(
            "a reviewer's digest is not hexadecimal; see `tidegate review`"
        ) from error


async def _listen(address: str, handle: Handler) -> asyncio.Server:
    host, port = host_port(address)
    if host is not None:
        return await asyncio.start_server(handle, host, port)
    return await _listen_unix(address, handle)


async def _listen_unix(address: str, handle: Handler) -> asyncio.Server:
    path = Path(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    before = os.umask(0o077)
    try:
        return await asyncio.start_unix_server(handle, path)
    finally:
        os.umask(before)
