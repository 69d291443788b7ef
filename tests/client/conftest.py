"""The official OpenAI client, over real sockets, against the application on a scripted engine."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from openai import AsyncOpenAI

from tidegate.clock import SystemClock
from tidegate.errors import TidegateError
from tidegate.ledger.accounts import Balance
from tidegate.ledger.budgets import Scope
from tidegate.serve.jobs import Delta, Event, Failed, Finished, Job
from tidegate.serve.outer.app import create_app
from tidegate.serve.outer.http_server import server_config
from tidegate.serve.outer.http_settings import HttpSettings, ServedModel
from tidegate.serve.outer.keys import Keyring
from tidegate.serve.telemetry import Metrics, make_logger
from tidegate.units import Bits, Seconds

KEY = "key-of-alice"


class WordTokenizer:
    """One token a word."""

    def encode(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def chat(self, messages: Sequence[Any]) -> list[int]:
        return [len(word) for turn in messages for word in str(turn["content"]).split()]


@dataclass
class EchoEngine:
    """Says `words`, the choice's number after each, up to a stop string or the limit.

    `fails` (if set) is raised before the first word, or told as an event after the second.
    `gate` holds back all after the first word.
    """

    words: tuple[str, ...] = ("sea", "tide", "gate", "lock")
    fails: TidegateError | None = None
    fails_late: bool = False
    gate: asyncio.Event | None = None
    jobs: list[Job] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        self.jobs.append(job)
        try:
            if self.fails and not self.fails_late:
                raise self.fails
            said = 0
            for said, word in enumerate(self.words[: job.limits.max_tokens], 1):
                if any(stop in word for stop in job.limits.stop):
                    yield Finished("stop", Bits(3 * said), said)
                    return
                yield Delta((said,), f"{word}{job.choice} ")
                if self.gate:
                    await self.gate.wait()
                if self.fails and said == 2:
                    yield Failed(self.fails.code, self.fails.message)
                    return
            reason: Any = "length" if said == job.limits.max_tokens else "stop"
            ref = "0123456789abcdef" * 2 if job.reasoning else None
            yield Finished(reason, Bits(3 * said), said, ref)
        finally:
            self.closed.set()

    def healthy(self) -> bool:
        return True


class NoLedger:
    def balance(self, scope: Scope) -> Balance:
        return Balance(Bits(0), Bits(0), None)


@asynccontextmanager
async def _serve(engine: EchoEngine) -> AsyncIterator[AsyncOpenAI]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    logs = io.StringIO()
    app = create_app(
        engine=engine,
        tokenizer=WordTokenizer(),
        keys=Keyring.empty().with_key(KEY, "alice"),
        model=ServedModel(id="m", created=1, context_length=100, vocab_size=1000, fingerprint="fp"),
        ledger=NoLedger(),
        edges=(),
        settings=HttpSettings(max_body=1 << 16, chunk_interval=Seconds(0.0), reasoning=True),
        clock=SystemClock(),
        metrics=Metrics(),
        log=make_logger(logs, SystemClock()),
    )
    server = uvicorn.Server(server_config(app, host="127.0.0.1", port=port, log_stream=logs))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, timeout=20)
    try:
        async with client:
            yield client
    finally:
        server.should_exit = True
        await serving
    assert "sea" not in logs.getvalue()


@pytest.fixture
def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
def serve() -> Callable[[EchoEngine], AbstractAsyncContextManager[AsyncOpenAI]]:
    return _serve
