"""One log line and two metrics for every request, whatever became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from tidegate.clock import Clock
from tidegate.serve.telemetry import Metrics
from tidegate.units import Bits, Seconds

_KEY = "tidegate.trace"

_NONE = Bits(0)

CLIENT_GONE = 499
"""Recorded, never sent: the client left before an answer began (nginx's number for it)."""


@dataclass(slots=True, kw_only=True)
class Trace:
    """What is known of a request so far. The one mutable thing that travels with it."""

    request_id: str
    started: Seconds
    route: str = "other"
    principal: str = ""
    status: int = 500
    begun: bool = False
    code: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    events: int = 0
    """Writes that the answer left in; what a token's envelope costs on the wire depends on it."""
    bits: Bits = _NONE


def trace_of(scope: Scope) -> Trace:
    """The trace of the request that `scope` belongs to."""
    return cast("Trace", scope[_KEY])


class Observed:
    """ASGI middleware: gives each request its trace, its id header, and reports it at its end."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        metrics: Metrics,
        log: FilteringBoundLogger,
        mint: Callable[[], str],
    ) -> None:
        self._app = app
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._mint = mint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = Trace(request_id=self._mint(), started=self._clock.monotonic())
        scope[_KEY] = trace

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                trace.status, trace.begun = message["status"], True
                name = (b"x-request-id", trace.request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), name]}
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._report(trace)

    def _report(self, trace: Trace) -> None:
        duration = Seconds(self._clock.monotonic() - trace.started)
        self._metrics.request(trace.route, trace.status, duration)
        self._log.info(
            "request",
            request_id=trace.request_id,
            principal=trace.principal,
            route=trace.route,
            status=trace.status,
            code=trace.code or ("" if trace.begun else "internal_error"),
            seconds=round(duration, 6),
            prompt_tokens=trace.prompt_tokens,
            completion_tokens=trace.completion_tokens,
            events=trace.events,
            bits=trace.bits,
        )
