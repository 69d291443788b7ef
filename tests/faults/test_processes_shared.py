"""Two outer halves on one ledger in PostgreSQL, in real processes, with meters on their links.

What must hold while halves and the database's servers are killed: the one log counts at least what
all meters saw; a request that gets no bits is a 503 that says when to come again.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import tiny_pair
from openai import OpenAI

from tidegate.bench.fleet_postgres_cluster import Cluster, PostgresMissingError, cluster
from tidegate.cli.ground import budgets_of
from tidegate.cli.toml import to_toml
from tidegate.config import Settings, SharedLedger
from tidegate.errors import LedgerError
from tidegate.ledger import TOTAL, Sound, verify
from tidegate.ledger.store_postgres import PostgresStore

PATIENCE = 120.0
LETTERS_ONLY = {str(token): -100 for token in range(95, tiny_pair.VOCABULARY)}
NAMES = ("outer-1", "outer-2")


class Pair:
    """An inner half, its meter, and an outer half that draws on the shared ledger."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.meter = tiny_pair.Meter(folder / "link.sock", folder / "inside.sock")
        inside = settings.link.model_copy(update={"address": str(folder / "inside.sock")})
        for half, chosen in (
            ("inner", settings.model_copy(update={"link": inside})),
            ("outer", settings),
        ):
            (folder / f"{half}.toml").write_text(to_toml(chosen), encoding="utf-8")
            self.start(half)

    def start(self, half: str) -> None:
        ready = ["--ready-file", str(self.folder / "ready")] if half == "outer" else []
        command = [sys.executable, "-m", "tidegate", "serve", half, *ready]
        with (self.folder / f"{half}.log").open("ab") as log:
            self.processes[half] = subprocess.Popen(
                [*command, "--settings", str(self.folder / f"{half}.toml")], stdout=log, stderr=log
            )

    def end(self, *, kill: bool) -> None:
        for process in self.processes.values():
            process.kill() if kill else process.terminate()
        for process in self.processes.values():
            process.wait(PATIENCE)

    def ask(self, **more: Any) -> Any:
        port = self.settings.outer.port
        client = OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="tidegate-demo", max_retries=0
        )
        asked = {"max_tokens": 4, "temperature": 0.7, "logit_bias": LETTERS_ONLY} | more
        return client.chat.completions.create(
            model="tidegate", messages=[{"role": "user", "content": "tell me"}], **asked
        )

    def answered(self) -> bool:
        try:
            return self.ask().usage.completion_tokens == 4
        except openai.OpenAIError:
            return False


def until(told: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def servers() -> Iterator[Cluster]:
    try:
        with cluster() as running:
            yield running
    except PostgresMissingError as error:
        pytest.skip(f"{error.message}: halves on a shared ledger are not tested here")


@pytest.fixture(scope="module")
def pairs(servers: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pair]]:
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    folder = tmp_path_factory.mktemp("shared")
    strong = tiny_pair.write_llama(folder / "strong", seed=1)
    weak = tiny_pair.write_ngram(folder / "weak", strong)
    made = []
    for name in NAMES:
        own = folder / name
        own.mkdir()
        shared = SharedLedger(
            urls=servers.urls,
            holder=name,
            copy_file=own / "copy.sqlite",
            lease_bits=8_192,
            longest_lease_bits=8_192,
            patience_ms=1500,
            silent_ms=4000,
        )
        brief = {"drain_s": 1}
        outer = {"port": free_port(), **brief}
        settings = tiny_pair.settings(own, strong, weak, outer=outer, inner=brief)
        made.append(Pair(own, settings.model_copy(update={"ledger": shared})))
    try:
        for pair in made:
            until(pair.answered)
        yield made
    finally:
        for pair in made:
            pair.end(kill=False)
            pair.meter.close()
    for pair in made:
        assert "Traceback" not in (pair.folder / "outer.log").read_text()
        assert pair.processes["outer"].returncode == 0
    counts(servers, made)
    assert held(servers, made) == 0  # an orderly end settles all that was held


def balance(servers: Cluster, pairs: list[Pair]) -> tuple[int, int]:
    store = PostgresStore(servers.primary.url)
    verdict = verify(store, budgets_of(pairs[0].settings, 1))
    store.close()
    assert isinstance(verdict, Sound)
    account = verdict.state.account(TOTAL)
    return account.spent, account.reserved


def held(servers: Cluster, pairs: list[Pair]) -> int:
    return balance(servers, pairs)[1]


def counts(servers: Cluster, pairs: list[Pair]) -> None:
    crossed = 8 * sum(pair.meter.upward for pair in pairs)
    assert sum(balance(servers, pairs)) >= crossed > 0


def test_two_halves_draw_on_one_budget(servers: Cluster, pairs: list[Pair]) -> None:
    counts(servers, pairs)
    assert held(servers, pairs) > 0


def test_a_killed_half_is_charged_in_full_and_comes_back(
    servers: Cluster, pairs: list[Pair]
) -> None:
    one, two = pairs
    streams = [pair.ask(stream=True, max_tokens=400) for pair in pairs]
    for stream in streams:
        next(stream)
    before = sum(balance(servers, pairs))
    one.processes["outer"].kill()
    one.processes["outer"].wait()
    counts(servers, pairs)
    one.start("outer")
    until(one.answered)
    assert sum(balance(servers, pairs)) >= before
    assert two.answered()
    counts(servers, pairs)


def test_a_failover_under_answers_forgets_nothing(servers: Cluster, pairs: list[Pair]) -> None:
    streams = [pair.ask(stream=True, max_tokens=100) for pair in pairs]
    for stream in streams:
        next(stream)
    servers.primary.kill()
    for stream in streams:
        list(stream)  # from what is held already
    servers.standby.promote()
    servers.primary, servers.standby = servers.standby, servers.primary
    servers.standby.follow(servers.primary)
    for pair in pairs:
        until(pair.answered)
    counts(servers, pairs)


def test_a_database_that_is_gone_is_a_503_and_nothing_is_lent(
    servers: Cluster, pairs: list[Pair]
) -> None:
    servers.primary.kill()
    one = pairs[0]
    refused = None
    for _ in range(200):
        try:
            one.ask(max_tokens=400)
        except openai.APIStatusError as error:
            refused = error
            break
    assert refused is not None
    assert refused.status_code == 503
    assert int(refused.response.headers["retry-after"]) >= 1
    servers.primary.start()
    for pair in pairs:
        until(pair.answered)
    with pytest.raises(LedgerError):
        PostgresStore(servers.standby.url).tip()
    counts(servers, pairs)
