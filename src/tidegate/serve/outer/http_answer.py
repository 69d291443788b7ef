"""One answer being sent, whole or in events, from the batches of its relay."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from starlette.types import Message, Send

from tidegate.clock import Clock
from tidegate.openai_api.errors import ApiError
from tidegate.openai_api.responses import DONE, Answer, Shape, Usage, error_event, usage_of
from tidegate.serve.jobs import Delta, Finished
from tidegate.serve.outer.http_door import ClientGoneError
from tidegate.serve.outer.http_observe import Trace
from tidegate.serve.outer.http_relay import Relay
from tidegate.serve.telemetry import Metrics
from tidegate.units import Bits, Seconds

_NO_STORE = (b"cache-control", b"no-store")


@dataclass(slots=True, kw_only=True)
class Sender:
    """Sends one answer; used once.

    Raises ApiError as long as no response has begun, and ClientGoneError if a write was blocked for
    longer than `send_timeout`: the client holds the connection open, but does not read.
    """

    relay: Relay
    shape: Shape
    trace: Trace
    clock: Clock
    metrics: Metrics
    send: Send
    send_timeout: Seconds
    _opened: set[int] = field(default_factory=set)

    async def whole(self) -> None:
        """Wait for every choice, then send one JSON body."""
        texts: defaultdict[int, str] = defaultdict(str)
        answers: dict[int, Answer] = {}
        while batch := await self.relay.tick():
            for choice, outcome in batch:
                if isinstance(outcome, ApiError):
                    raise outcome
                if isinstance(outcome, Delta):
                    texts[choice] += outcome.text
                    continue
                self._account(outcome)
                answers[choice] = Answer(
                    index=choice,
                    text=texts[choice],
                    reason=outcome.reason,
                    reasoning_ref=outcome.reasoning_ref,
                )
        body = self.shape.whole([answers[choice] for choice in sorted(answers)], self._usage())
        await self._start(b"application/json", (b"content-length", str(len(body)).encode()))
        await self._write(body, last=True)

    async def stream(self, *, include_usage: bool) -> None:
        """Send each batch as it is handed out; then usage if asked for, and the end mark."""
        batch = await self.relay.tick()
        for _, outcome in batch:
            if isinstance(outcome, ApiError):
                raise outcome
        await self._start(b"text/event-stream; charset=utf-8", (b"x-accel-buffering", b"no"))
        texted = False
        while batch:
            events = bytearray()
            for choice, outcome in batch:
                if isinstance(outcome, ApiError):
                    self.trace.code = outcome.code
                    self.metrics.refused(outcome.code)
                    await self._write(bytes(events) + error_event(outcome), last=True)
                    return
                events += self._events(choice, outcome)
            await self._write(bytes(events))
            if not texted and any(isinstance(told, Delta) and told.text for _, told in batch):
                texted = True
                delay = Seconds(self.clock.monotonic() - self.trace.started)
                self.metrics.first_token(self.trace.route, delay)
            batch = await self.relay.tick()
        usage = self.shape.usage(self._usage()) if include_usage else b""
        await self._write(usage + DONE, last=True)

    def _events(self, choice: int, outcome: Delta | Finished) -> bytes:
        opening = b"" if choice in self._opened else self.shape.opening(choice)
        self._opened.add(choice)
        if isinstance(outcome, Delta):
            return opening + (self.shape.delta(choice, outcome.text) if outcome.text else b"")
        self._account(outcome)
        return opening + self.shape.closing(choice, outcome.reason, outcome.reasoning_ref)

    def _account(self, finished: Finished) -> None:
        self.trace.completion_tokens += finished.completion_tokens
        self.trace.bits = Bits(self.trace.bits + finished.bits)
        self.metrics.tokens("completion", self.trace.principal, finished.completion_tokens)

    def _usage(self) -> Usage:
        return usage_of(self.trace.prompt_tokens, self.trace.completion_tokens, self.trace.bits)

    async def _start(self, kind: bytes, *headers: tuple[bytes, bytes]) -> None:
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", kind), _NO_STORE, *headers],
            }
        )

    async def _write(self, body: bytes, *, last: bool = False) -> None:
        self.trace.events += 1
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def _send(self, message: Message) -> None:
        try:
            # The loop's own timer: this is an I/O deadline, not a pace anybody can observe.
            async with asyncio.timeout(self.send_timeout):
                await self.send(message)
        except (TimeoutError, OSError) as error:
            raise ClientGoneError from error
