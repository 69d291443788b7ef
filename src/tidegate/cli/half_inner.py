"""The inner half, built from settings and run until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog

from tidegate.cli import half_engine, parts
from tidegate.cli.ground import budgets_of, lane_budgets, lane_principal, open_ledger, secret_bytes
from tidegate.cli.half_rank import ranked_model
from tidegate.cli.half_sealed import at_hand, until_lease_ends
from tidegate.cli.listening import listening
from tidegate.cli.purse import LedgerAllowance
from tidegate.cli.stopping import Stopping
from tidegate.clock import SystemClock
from tidegate.config import Inner, Lane, Settings
from tidegate.errors import ConfigError, EngineDownError
from tidegate.ledger import Ledger
from tidegate.ledger.budgets import edge_between
from tidegate.ledger.entries import OWN_PRINCIPAL
from tidegate.models.engine_replicas import Replicas
from tidegate.models.port import Model, Recovering, Tokenizer
from tidegate.models.shared import SharedModel
from tidegate.serve.inner.draw import Drawer
from tidegate.serve.inner.draw_engine import EngineDrawer
from tidegate.serve.inner.engine import InnerEngine
from tidegate.serve.inner.measure import Measurer
from tidegate.serve.inner.reasoning import ReasoningStore, Thinking
from tidegate.serve.inner.review import ReviewServer
from tidegate.serve.inner.server import InnerServer, greet

_log = structlog.get_logger(__name__)

_LOOK_S = 0.05
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0


async def run_inner(
    settings: Settings,
    stop: Stopping,
    rig: Callable[[Model], Model] = lambda model: model,
    ready_file: Path | None = None,
) -> None:
    """Serve the link, or several, until `stop`. Raises TidegateError before the first connection.

    `rig`: what an attacker makes of the strong model; nothing, but for demonstrations.
    `ready_file` is there while outer halves may connect.
    """
    inner = settings.inner
    reviewers = _digests(inner.reviewers)
    lanes = lanes_of(settings)
    with at_hand(settings) as models:
        tokenizer = parts.load_tokenizer(models)
        thinking = _thinking(inner, tokenizer)
        weak = parts.weak_model(models)
        served = half_engine.opened(settings, weak.vocab_size)
        strong: Model | Replicas
        if served is not None:
            strong = served
        elif settings.ranks.addresses:
            sealed = settings.sealed.kms is not None
            strong = ranked_model(models, settings.ranks, sealed=sealed)
        else:
            strong = rig(parts.strong_model(models))
    budgets = budgets_of(settings, models.parameters or strong.describe().parameters)
    observer = None
    if inner.measurements is not None:
        if len(lanes) > 1:
            raise ConfigError("[inner] measurements are taken over one link, not several lanes")
        observer = Measurer(inner.measurements)
        strong = strong if isinstance(strong, Replicas) else observer.strong(strong)
        weak = observer.weak(weak)
    store = ReasoningStore(SystemClock(), reviewers=reviewers)
    strongs: list[Model | Drawer] = (
        [EngineDrawer(strong, weak.vocab_size) for _ in lanes]
        if isinstance(strong, Replicas)
        else [*views(strong, len(lanes), gather=True)]
    )
    weaks = views(weak, len(lanes), gather=False)
    async with AsyncExitStack() as stack:
        if served is not None:
            stack.callback(served.close)
        ledger = stack.enter_context(open_ledger(inner.ledger, lane_budgets(budgets, settings)))
        servers = []
        for name, lane in lanes.items():
            engine = InnerEngine(
                strongs.pop(),
                next(weaks),
                tokenizer,
                store,
                slots=lane.max_streams or settings.link.max_streams,
                thinking=thinking,
                observer=observer,
            )
            allowance = _allowance(ledger, settings, name)
            stack.callback(allowance.close)
            server = InnerServer(engine, secret_bytes(lane.secret_file), allowance, lane=name)
            stack.callback(server.close)
            servers.append(server)
        if reviewers:
            review = ReviewServer(store, tokenizer.decode)
            await stack.enter_async_context(listening(inner.review_address, review.handle))
        # Without its keys' lease this half may not hold the weights: it ends, and they with it.
        leased = asyncio.create_task(until_lease_ends(settings.sealed))
        leased.add_done_callback(lambda _: stop.break_off())
        while not stop.asked.is_set():
            await _serve(settings, servers, stop, ready_file)
            if not stop.asked.is_set():
                for server in servers:
                    await server.forget()
                await _recover(strong, stop)
        if leased.done():
            leased.result()
        leased.cancel()


def lanes_of(settings: Settings) -> Mapping[str, Lane]:
    """The lanes by name; without any in the settings one without a name, over `[link]`.

    Raises ConfigError where two share a secret.
    """
    if not settings.lanes:
        return {"": Lane(address=settings.link.address, secret_file=settings.link.secret_file)}
    secrets = {name: secret_bytes(lane.secret_file) for name, lane in settings.lanes.items()}
    if len(set(secrets.values())) < len(secrets):
        raise ConfigError("two lanes have the same secret; each needs one of its own")
    return settings.lanes


def views(model: Model, count: int, *, gather: bool) -> Iterator[Model]:
    """`model` for so many callers, itself if there is one."""
    if count == 1:
        return iter((model,))
    shared = SharedModel(model, gather=gather)
    return iter([shared.view() for _ in range(count)])


async def _serve(
    settings: Settings, servers: list[InnerServer], stop: Stopping, ready_file: Path | None
) -> None:
    """Take connections until `stop`, then let streams end; or until the engine is down."""
    down = asyncio.Event()
    for server in servers:
        server.on_down = down.set
    async with listening(settings.link.address, partial(greet, servers)) as listener:
        with _announced(ready_file):
            waits = [asyncio.create_task(event.wait()) for event in (stop.asked, down)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        listener.close()
        if not down.is_set():
            if settings.lanes:
                # Nobody outside can be told; but an outer half with other lanes tries those.
                for server in servers:
                    server.leave()
            await stop.patience(_quiet(servers), settings.inner.drain_s)


async def _quiet(servers: list[InnerServer]) -> None:
    while any(server.busy for server in servers):
        await asyncio.sleep(_LOOK_S)


async def _recover(strong: Model | Replicas, stop: Stopping) -> None:
    """Bring the strong model's engine back, trying less and less often. Raises ConfigError."""
    if not isinstance(strong, Recovering):
        raise ConfigError("the strong model's engine is gone; start this half again")
    pause = _FIRST_PAUSE_S
    while not stop.asked.is_set():
        try:
            await asyncio.to_thread(strong.recover)
        except EngineDownError as error:
            _log.warning("engine_still_down", **error.diagnostics())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.asked.wait(), pause)
            pause = min(_LONGEST_PAUSE_S, 2 * pause)
        else:
            _log.info("engine_back")
            return


@contextlib.contextmanager
def _announced(ready_file: Path | None) -> Iterator[None]:
    if ready_file is not None:
        ready_file.touch()
    try:
        yield
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def _allowance(ledger: Ledger, settings: Settings, lane: str) -> LedgerAllowance:
    principal = lane_principal(lane) if lane else OWN_PRINCIPAL
    return LedgerAllowance(ledger, principal, edge_between(*settings.budget.zones[:2]))


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
