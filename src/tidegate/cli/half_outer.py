"""The outer half, built from settings and run until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping

from tidegate.cli import parts
from tidegate.cli.ground import (
    budgets_of,
    host_port,
    log_stream,
    open_ledger,
    secret_bytes,
)
from tidegate.cli.ledger_shared import shared_purse
from tidegate.cli.listening import listening
from tidegate.cli.outer_log import open_log, seal_of
from tidegate.cli.purse import LedgerPurse
from tidegate.cli.purse_lanes import lane_purses
from tidegate.cli.record import RecordingEngine
from tidegate.cli.scan_settings import settings_of
from tidegate.cli.stopping import Stopping
from tidegate.clock import SystemClock
from tidegate.config import Lane as LaneOf
from tidegate.config import Settings
from tidegate.errors import BudgetExceededError, ConfigError
from tidegate.ledger import CLOSE_BITS, Budgets
from tidegate.ledger.budgets import edge_between, edges_along
from tidegate.ledger.entries import OWN_PRINCIPAL
from tidegate.ledger.lease import LeaseDesk
from tidegate.models.port import Model, Tokenizer
from tidegate.models.shared import SharedModel
from tidegate.sampling.seed import SeedService
from tidegate.serve.jobs import Engine
from tidegate.serve.outer.app import LedgerView, create_app
from tidegate.serve.outer.control import ControlServer
from tidegate.serve.outer.hold import HeldEngine, SocketExaminer
from tidegate.serve.outer.http_admission import Admission
from tidegate.serve.outer.http_server import HttpServer, bound, server_config
from tidegate.serve.outer.http_settings import STREAMS, HttpSettings, ServedModel
from tidegate.serve.outer.keys import Keyring
from tidegate.serve.outer.lanes import Lane, Lanes
from tidegate.serve.outer.leased import LeasedEngine
from tidegate.serve.outer.link import Connect, LinkEngine
from tidegate.serve.outer.link_account import Purse
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.serve.outer.recorder import RecordedEngine
from tidegate.serve.outer.scanned import BLOCK, ScannedEngine
from tidegate.serve.schedule import PullPolicy
from tidegate.serve.telemetry import Metrics, make_logger
from tidegate.units import Bits, Seconds

DEMO_KEY = "tidegate-demo"
"""Public; accepted from the host itself only, and only where settings say so."""


async def run_outer(settings: Settings, stop: Stopping, ready: Callable[[int], None]) -> None:
    """Serve the API until `stop`; `ready` is called with the port. Raises TidegateError."""
    models = settings.models
    keys = keyring(settings)
    tokenizer, weak = parts.load_tokenizer(models), parts.weak_model(models)
    budgets = budgets_of(settings, parts.strong_parameters(models))
    seeds = SeedService(secret_bytes(settings.outer.seed_key_file))
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        # Entered first, so closed last: streams end before their leases are settled.
        purse, ledger = stack.enter_context(purse_of(settings, budgets, metrics))
        folder = settings.record.folder
        # Entered before the link, so that it still records how the last streams end.
        log = None
        if folder is not None:
            opened = open_log(settings, folder, tokenizer, weak, metrics.incident)
            log = await stack.enter_async_context(opened)
        link: LinkEngine | Lanes
        if settings.lanes:
            purses = stack.enter_context(
                lane_purses(settings.outer.lane_ledger, settings.lanes, purse)
            )
            link = lanes(settings, weak, tokenizer, seeds, purses, metrics)
            await stack.enter_async_context(
                listening(settings.outer.control, ControlServer(link).handle)
            )
        else:
            link = link_engine(settings, weak, tokenizer, seeds, purse, metrics)
        await stack.enter_async_context(link)
        # Without its link this half is no use; whoever started it may start it again.
        ended = asyncio.create_task(link.ended())
        ended.add_done_callback(lambda _: stop.break_off())
        engine: Engine = link
        if isinstance(purse, LeaseDesk):
            engine = LeasedEngine(
                link,
                purse,
                patience=Seconds(settings.ledger.patience_ms / 1000),
                max_reasoning=settings.inner.reasoning_tokens,
            )
        if log is not None:
            engine = RecordedEngine(engine, seeds, log, seal_of(settings), settings.record.lora)
        engine = held(settings, engine)
        engine = scanned(settings, engine, metrics)
        if settings.outer.record is not None:
            engine = RecordingEngine(engine, seeds, settings.outer.record)
        await serve_api(
            settings,
            engine,
            tokenizer,
            keys,
            ledger,
            metrics,
            context_length=parts.context_length(models),
            vocab_size=weak.vocab_size,
            stop=stop,
            ready=ready,
        )
        if ended.done():
            ended.result()
        ended.cancel()


@contextlib.contextmanager
def purse_of(
    settings: Settings, budgets: Budgets, metrics: Metrics
) -> Iterator[tuple[LedgerPurse | LeaseDesk, LedgerView]]:
    """What pays for streams: leases on a ledger of this half's own, or on one that several share.

    Raises ConfigError or LedgerError.
    """
    if settings.ledger.urls:
        with shared_purse(settings, budgets, metrics.incident) as shared:
            yield shared
        return
    with open_ledger(settings.outer.ledger, budgets) as ledger:
        purse = LedgerPurse(ledger, settings.budget.zones, settings.budget.homes)
        with contextlib.suppress(BudgetExceededError):
            purse.stand_by(OWN_PRINCIPAL, Bits(16 * CLOSE_BITS))
        try:
            yield purse, ledger
        finally:
            purse.close()


def held(settings: Settings, engine: Engine) -> Engine:
    """`engine`, behind a verifier where settings name one. Raises ConfigError without a record."""
    record = settings.record
    if record.hold is None:
        return engine
    if record.folder is None:
        raise ConfigError("[record] hold needs [record] folder: a verifier reads the record")
    return HeldEngine(engine, SocketExaminer(record.hold, Seconds(record.hold_ms / 1000)))


def scanned(settings: Settings, engine: Engine, metrics: Metrics) -> Engine:
    """`engine`, with its answers looked at where settings say so. Raises ConfigError or OSError."""
    outer = settings.outer
    if outer.scan == "off":
        return engine
    chosen = settings_of(
        outer.scan_calibration, outer.fingerprints, outer.fingerprint_key, block=BLOCK
    )
    return ScannedEngine(engine, outer.scan, metrics, chosen)


async def serve_api(
    settings: Settings,
    engine: Engine,
    tokenizer: Tokenizer,
    keys: Keyring,
    ledger: LedgerView,
    metrics: Metrics,
    *,
    context_length: int,
    vocab_size: int,
    stop: Stopping,
    ready: Callable[[int], None],
) -> None:
    """Serve the OpenAI API over `engine` until `stop`. Raises ConfigError.

    Once told to stop, nothing begins any more, probes hear that it is not ready, and what has begun
    may end in its own time, up to `drain_s`.
    """
    clock = SystemClock()
    limits = http_settings(settings)
    admission = Admission(limits.streams_per_principal, limits.streams)
    app = create_app(
        engine=engine,
        tokenizer=tokenizer,
        keys=keys,
        model=ServedModel(
            id=settings.outer.model_name,
            created=int(clock.now()),
            context_length=context_length,
            vocab_size=vocab_size,
            fingerprint="tg_" + tokenizer.fingerprint[:12],
        ),
        ledger=ledger,
        edges=edges_along(settings.budget.zones),
        settings=limits,
        clock=clock,
        metrics=metrics,
        log=make_logger(log_stream(), clock),
        admission=admission,
    )
    listener = bound(settings.outer.host, settings.outer.port)
    port = listener.getsockname()[1]
    config = server_config(app, host=settings.outer.host, port=port, log_stream=log_stream())
    server = HttpServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    if server.started:
        ready(port)
    stopping = asyncio.create_task(stop.asked.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    admission.shut_down()
    if not serving.done():
        await stop.patience(admission.emptied(), settings.outer.drain_s)
    server.should_exit = True
    await serving
    stopping.cancel()


def lanes(
    settings: Settings,
    weak: Model,
    tokenizer: Tokenizer,
    seeds: SeedService,
    purses: Mapping[str, Purse],
    metrics: Metrics,
) -> Lanes:
    """The outer ends of all lanes, over one weak model. Raises ConfigError."""
    shared = SharedModel(weak, gather=False)
    links = [
        Lane(
            name,
            link_engine(
                settings, shared.view(), tokenizer, seeds, purses[name], metrics, name=name
            ),
            lane.max_streams or settings.link.max_streams,
            SystemClock(),
        )
        for name, lane in settings.lanes.items()
    ]
    return Lanes(links, metrics)


def link_engine(
    settings: Settings,
    weak: Model,
    tokenizer: Tokenizer,
    seeds: SeedService,
    purse: Purse,
    metrics: Metrics,
    *,
    name: str = "",
) -> LinkEngine:
    """The outer end of the link, or of the lane `name`. Raises ConfigError."""
    link, budget = settings.link, settings.budget
    lane = settings.lanes.get(name, LaneOf(address=link.address, secret_file=link.secret_file))
    if lane.address is None:
        raise ConfigError(f"lane {name} has no address; an outer half needs the inner half's")
    return LinkEngine(
        connector(lane.address),
        secret_bytes(lane.secret_file),
        weak,
        tokenizer,
        seeds,
        purse,
        SystemClock(),
        metrics,
        LinkSettings(
            edge=edge_between(*budget.zones[:2]),
            lane=name,
            slots=lane.max_streams or link.max_streams,
            policy=PullPolicy(delay=Seconds(link.delay_ms / 1000), window=link.window),
            pace=Seconds(link.pace_ms / 1000) if link.pace_ms else None,
            pace_bytes=link.pace_bytes,
            late_after=Seconds(link.late_ms / 1000),
            max_reasoning=settings.inner.reasoning_tokens,
        ),
    )


def http_settings(settings: Settings) -> HttpSettings:
    """The HTTP side's part of the settings."""
    outer = settings.outer
    return HttpSettings(
        max_tokens=outer.max_tokens,
        chunk_interval=Seconds(outer.chunk_interval_ms / 1000),
        streams_per_principal=outer.streams_per_principal,
        streams=STREAMS * max(1, len(settings.lanes)),
        open_metrics=outer.open_metrics,
        reasoning=settings.inner.reasoning_start is not None,
    )


def keyring(settings: Settings) -> Keyring:
    """The keys that are accepted. Raises ConfigError when that would be none."""
    path = settings.outer.key_file
    keys = Keyring.read(path) if path.exists() else Keyring.empty()
    if settings.outer.demo_key:
        keys = keys.with_key(DEMO_KEY, "demo", scopes=("infer", "metrics"), loopback_only=True)
    if not keys.keys:
        raise ConfigError(
            f"nobody could use this: {path} holds no key. Make one with `tidegate serve key NAME`."
        )
    return keys


def connector(address: str) -> Connect:
    """Opens connections to a socket path or to host:port. Raises ConfigError for neither."""
    host, port = host_port(address)
    if host is None:
        return lambda: asyncio.open_unix_connection(address)
    return lambda: asyncio.open_connection(host, port)
