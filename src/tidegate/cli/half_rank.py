"""One strong model over several hosts: the leader's model, and a rank run until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from tidegate.cli.ground import host_port, secret_bytes
from tidegate.cli.half_sealed import at_hand, until_lease_ends
from tidegate.cli.listening import listening
from tidegate.cli.stopping import Stopping
from tidegate.config import Models, Ranks, Settings
from tidegate.errors import ConfigError
from tidegate.models.exact.format import is_converted
from tidegate.models.exact.load import leader_of, load_stage
from tidegate.models.exact.rank_server import RankServer
from tidegate.models.exact.ranks import Rank, RankedModel
from tidegate.models.prepared import prepare


def ranked_model(models: Models, ranks: Ranks, *, sealed: bool) -> RankedModel:
    """The strong model that this host leads; the other ranks have to be there.

    `sealed`: it was opened from a sealed folder, as far as this host needs it.

    Raises ConfigError, ModelError, or EngineDownError naming the rank that is not.
    """
    secret, count = secret_bytes(ranks.secret_file), 1 + len(ranks.addresses)
    stage, converted = load_stage(_folder(models), 0, count, vouched=sealed, threads=models.threads)
    patience = ranks.patience_ms / 1000
    others = [
        Rank(number, count, _connector(address, patience), secret, converted.root)
        for number, address in enumerate(ranks.addresses, 1)
    ]
    model = leader_of(stage, converted, others, max_context=models.max_context)
    model.recover()
    return model


async def run_rank(
    settings: Settings, rank: int, stop: Stopping, ready_file: Path | None = None
) -> None:
    """Serve rank `rank` (1 and up) to whoever leads, until `stop`. Raises TidegateError.

    It holds nothing that is worth waiting for: what it computed, its leader computes again.
    """
    ranks = settings.ranks
    if not 1 <= rank <= len(ranks.addresses):
        raise ConfigError(
            f"[ranks] addresses names ranks 1 to {len(ranks.addresses)}; there is no rank {rank}"
        )
    count = 1 + len(ranks.addresses)
    with at_hand(settings, rank) as models:
        stage, converted = load_stage(
            _folder(models),
            rank,
            count,
            vouched=settings.sealed.kms is not None,
            threads=models.threads,
        )
    server = RankServer(stage, secret_bytes(ranks.secret_file), converted.root)
    async with contextlib.AsyncExitStack() as stack:
        leased = asyncio.create_task(until_lease_ends(settings.sealed))
        leased.add_done_callback(lambda _: stop.break_off())
        await stack.enter_async_context(listening(ranks.addresses[rank - 1], server.handle))
        if ready_file is not None:
            ready_file.touch()
            stack.callback(lambda: ready_file.unlink(missing_ok=True))
        await stop.asked.wait()
        if leased.done():
            leased.result()
        leased.cancel()


def _folder(models: Models) -> Path:
    folder = prepare(models.strong, dtype=models.dtype)
    if models.engine != "transformers" or not is_converted(folder):
        raise ConfigError(
            f"{models.strong} is not converted: several ranks run the exact engine only; "
            "see `tidegate exact convert`. vLLM shards models by itself, behind [engine] urls"
        )
    return folder


def _connector(address: str, patience: float) -> Callable[[], socket.socket]:
    host, port = host_port(address)

    def connect() -> socket.socket:
        if host is not None:
            return socket.create_connection((host, port), timeout=patience)
        there = socket.socket(socket.AF_UNIX)
        there.settimeout(patience)
        try:
            there.connect(address)
        except OSError:
            there.close()
            raise
        return there

    return connect
