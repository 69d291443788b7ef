"""A scripted engine, and the application called as a server would call it."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from tidegate.clock import ManualClock
from tidegate.ledger.accounts import Balance
from tidegate.ledger.budgets import Scope
from tidegate.serve.jobs import Delta, Event, Finished, Job
from tidegate.serve.outer.app import create_app
from tidegate.serve.outer.http_admission import Admission
from tidegate.serve.outer.http_settings import HttpSettings, ServedModel
from tidegate.serve.outer.keys import Keyring
from tidegate.serve.telemetry import Metrics, make_logger
from tidegate.units import Bits

MODEL = ServedModel(
    id="org/model", created=1_600_000_000, context_length=200, vocab_size=300, fingerprint="fp"
)
ALICE, BOB, SCRAPER = "key-of-alice", "key-of-bob", "key-of-scraper"
SETTINGS = HttpSettings(max_tokens=50, max_choices=4, reasoning=True)
CHAT = {"model": MODEL.id, "messages": [{"role": "user", "content": "hello"}]}

Step = Event | BaseException | asyncio.Event | Callable[[], None]


def text(*pieces: str, bits: int = 10, reason: Any = "stop", ref: str | None = None) -> list[Step]:
    """A script that says `pieces`, one token each, and finishes."""
    deltas: list[Step] = [Delta((place,), piece) for place, piece in enumerate(pieces)]
    return [*deltas, Finished(reason, Bits(bits), len(pieces), ref)]


class ScriptedEngine:
    """Plays one script a choice: events to yield, errors to raise, events to wait for, calls."""

    def __init__(self, *scripts: Iterable[Step]) -> None:
        self.scripts = [list(script) for script in scripts] or [text("hi")]
        self.jobs: list[Job] = []
        self.closed: list[tuple[str, int]] = []
        self.well = True

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        self.jobs.append(job)
        try:
            for step in self.scripts[job.choice % len(self.scripts)]:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, BaseException):
                    raise step
                elif callable(step):
                    step()
                else:
                    yield step
        finally:
            self.closed.append((job.principal, job.choice))

    def healthy(self) -> bool:
        return self.well


class ByteTokenizer:
    """One token a byte."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def chat(self, messages: Sequence[Any]) -> list[int]:
        return [byte for turn in messages for byte in str(turn["content"]).encode()]


@dataclass
class FakeLedger:
    error: Exception | None = None

    def balance(self, scope: Scope) -> Balance:
        if self.error:
            raise self.error
        return Balance(Bits(5), Bits(1), Bits(94) if scope == "total" else None)


@dataclass
class Reply:
    """What the application sent, message by message."""

    sent: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        body = self.json
        assert body.keys() == {"error"}
        assert body["error"].keys() == {"message", "type", "param", "code"}
        return dict(body["error"])

    @property
    def events(self) -> list[Any]:
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == ""
        assert all(line.startswith("data: ") for line in lines)
        return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


class Caller:
    """A client that can leave, or stop reading."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.leave = asyncio.Event()
        self.stop_reading = asyncio.Event()
        self.reply = Reply()

    async def __call__(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] = b"",
        *,
        key: str | None = ALICE,
        headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),),
        chunks: Sequence[bytes] | None = None,
        host: str = "203.0.113.9",
    ) -> Reply:
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        pieces = list(chunks) if chunks is not None else [raw]
        messages = [
            {"type": "http.request", "body": piece, "more_body": place < len(pieces) - 1}
            for place, piece in enumerate(pieces)
        ]
        named = [*headers, *([("authorization", f"Bearer {key}")] if key else [])]

        async def receive() -> Message:
            if messages:
                return messages.pop(0)
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self.reply.sent.append(message)
            if self.stop_reading.is_set():
                await asyncio.Event().wait()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in named],
            "client": (host, 40000),
            "server": ("127.0.0.1", 80),
        }
        await self.app(scope, receive, send)
        return self.reply


class Site:
    """An application and everything it was built from."""

    def __init__(
        self,
        *scripts: Iterable[Step],
        settings: HttpSettings | None = None,
        tokenizer: Any = None,
        admission: Admission | None = None,
        **changes: Any,
    ) -> None:
        self.engine = ScriptedEngine(*scripts)
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.log_stream = io.StringIO()
        self.ledger = FakeLedger()
        ids = itertools.count(1)
        keys = (
            Keyring(salt="00" * 32)
            .with_key(ALICE, "alice")
            .with_key(BOB, "bob")
            .with_key(SCRAPER, "scraper", scopes=("metrics",))
            .with_key("demo", "demo", loopback_only=True)
        )
        self.app = create_app(
            engine=self.engine,
            tokenizer=tokenizer or ByteTokenizer(),
            keys=keys,
            model=MODEL,
            ledger=self.ledger,
            edges=("inner→outside",),
            settings=replace(settings or SETTINGS, **changes),
            clock=self.clock,
            metrics=self.metrics,
            log=make_logger(self.log_stream, self.clock),
            admission=admission,
            mint=lambda: f"id{next(ids)}",
        )

    def caller(self) -> Caller:
        return Caller(self.app)

    async def post(self, path: str = "/v1/chat/completions", **fields: Any) -> Reply:
        base = CHAT if "chat" in path else {"model": MODEL.id, "prompt": "hello"}
        return await self.caller()("POST", path, {**base, **fields})

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_stream.getvalue().splitlines()]


@pytest.fixture
def make_site() -> type[Site]:
    return Site


@pytest.fixture
def say() -> Callable[..., list[Step]]:
    return text
