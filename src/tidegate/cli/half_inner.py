"""The inner half, built from settings and run until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

from tidegate.cli import parts
from tidegate.cli.ground import budgets_of, host_port, open_ledger, secret_bytes
from tidegate.cli.half_sealed import at_hand, until_lease_ends
from tidegate.cli.purse import LedgerAllowance
from tidegate.clock import SystemClock
from tidegate.config import Inner, Settings
from tidegate.errors import ConfigError
from tidegate.ledger.budgets import edge_between
from tidegate.ledger.entries import OWN_PRINCIPAL
from tidegate.models.port import Model, Tokenizer
from tidegate.serve.inner.engine import InnerEngine
from tidegate.serve.inner.measure import Measurer
from tidegate.serve.inner.reasoning import ReasoningStore, Thinking
from tidegate.serve.inner.review import ReviewServer
from tidegate.serve.inner.server import InnerServer

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


async def run_inner(
    settings: Settings, stop: asyncio.Event, rig: Callable[[Model], Model] = lambda model: model
) -> None:
    """Serve the link until `stop`. Raises TidegateError before the first connection.

    `rig`: what an attacker makes of the strong model; nothing, but for demonstrations.
    """
    inner, zones = settings.inner, settings.budget.zones
    reviewers = _digests(inner.reviewers)
    with at_hand(settings) as models:
        tokenizer = parts.load_tokenizer(models)
        thinking = _thinking(inner, tokenizer)
        strong, weak = rig(parts.strong_model(models)), parts.weak_model(models)
    budgets = budgets_of(settings, models.parameters or strong.describe().parameters)
    observer = None
    if inner.measurements is not None:
        observer = Measurer(inner.measurements)
        strong, weak = observer.strong(strong), observer.weak(weak)
    store = ReasoningStore(SystemClock(), reviewers=reviewers)
    engine = InnerEngine(
        strong,
        weak,
        tokenizer,
        store,
        slots=settings.link.max_streams,
        thinking=thinking,
        observer=observer,
    )
    async with contextlib.AsyncExitStack() as stack:
        ledger = stack.enter_context(open_ledger(inner.ledger, budgets))
        allowance = LedgerAllowance(ledger, OWN_PRINCIPAL, edge_between(*zones[:2]))
        stack.callback(allowance.close)
        server = InnerServer(engine, secret_bytes(settings.link.secret_file), allowance)
        stack.callback(server.close)
        if reviewers:
            review = ReviewServer(store, tokenizer.decode)
            await stack.enter_async_context(_listening(inner.review_address, review.handle))
        await stack.enter_async_context(_listening(settings.link.address, server.handle))
        # Without its keys' lease this half may not hold the weights: it ends, and they with it.
        leased = asyncio.create_task(until_lease_ends(settings.sealed))
        leased.add_done_callback(lambda _: stop.set())
        await stop.wait()
        if leased.done():
            leased.result()
        leased.cancel()


def _thinking(inner: Inner, tokenizer: Tokenizer) -> Thinking | None:
    if inner.reasoning_start is None and inner.reasoning_end is None:
        return None
    if not (inner.reasoning_start and inner.reasoning_end):
        raise ConfigError("reasoning needs both delimiters, reasoning_start and reasoning_end")
    start, end = tokenizer.encode(inner.reasoning_start), tokenizer.encode(inner.reasoning_end)
    return Thinking(tuple(start), tuple(end), inner.reasoning_tokens)


def _digests(reviewers: tuple[str, ...]) -> tuple[bytes, ...]:
    if any(not re.fullmatch("[0-9a-f]{64}", digest) for digest in reviewers):
        raise ConfigError("a reviewer's digest is 64 hexadecimal digits; see `tidegate review new`")
    return tuple(bytes.fromhex(digest) for digest in reviewers)


@contextlib.asynccontextmanager
async def _listening(address: str, handle: Handler) -> AsyncIterator[None]:
    """Accept connections while the context is open; leaving it ends those that are."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        server = await _start(address, accept)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error}") from error
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _start(address: str, accept: Accept) -> asyncio.Server:
    host, port = host_port(address)
    if host is not None:
        return await asyncio.start_server(accept, host, port)
    path = Path(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        path.unlink()  # left by a half that was killed
    before = os.umask(0o077)
    try:
        return await asyncio.start_unix_server(accept, path)
    finally:
        os.umask(before)
