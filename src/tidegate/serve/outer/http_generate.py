"""The two endpoints that generate: a body becomes jobs, the jobs' events become an answer.

Stated behaviour:

- The status is decided at the first tick at which anything is known. A failure by then has a status
  of its own; a later one ends the stream with an error event, without `[DONE]`.
- If one choice fails the request has failed, and its other choices are cancelled.
- A client that disconnects cancels its streams. One that stops reading is cut off: by `http_relay`
  once too much waits for it, or after `send_timeout`; nobody else's stream waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from tidegate.clock import Clock
from tidegate.openai_api.errors import of_failure
from tidegate.openai_api.responses import Stamp
from tidegate.serve.jobs import Engine
from tidegate.serve.outer.attempts import Attempts
from tidegate.serve.outer.http_admission import Admission
from tidegate.serve.outer.http_answer import Sender
from tidegate.serve.outer.http_asked import Asked, jobs_of
from tidegate.serve.outer.http_door import ClientGoneError, enter, read_body
from tidegate.serve.outer.http_observe import CLIENT_GONE, Trace, trace_of
from tidegate.serve.outer.http_relay import Relay
from tidegate.serve.outer.http_settings import HttpSettings, ServedModel
from tidegate.serve.outer.keys import Keyring
from tidegate.serve.telemetry import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What answering takes, besides the request."""

    engine: Engine
    keys: Keyring
    model: ServedModel
    settings: HttpSettings
    clock: Clock
    metrics: Metrics
    log: FilteringBoundLogger
    admission: Admission
    attempts: Attempts


class Generate:
    """An ASGI application for one route. `read` takes a body; it tokenises, so it may block."""

    def __init__(self, service: Service, route: str, read: Callable[[bytes], Asked]) -> None:
        self._service = service
        self._route = route
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope)
        trace.route = self._route
        try:
            await self._answer(scope, receive, send, trace)
        except ClientGoneError:
            trace.code = "client_gone"
            if not trace.begun:
                trace.status = CLIENT_GONE

    async def _answer(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        service, settings = self._service, self._service.settings
        principal = enter(scope, service.keys, "infer")
        body = await read_body(scope, receive, settings)
        asked = await asyncio.to_thread(self._read, body)
        if not service.engine.healthy():
            raise of_failure("overloaded")
        attempt = service.attempts.count(
            principal.name, asked.prompts, asked.options.params, asked.options.seed
        )
        jobs = jobs_of(asked, trace.request_id, principal.name, attempt)
        # A stream of which the inner half drafts several costs it as much as several.
        drafts = sum(job.candidates for job in jobs)
        with service.admission.admit(principal.name, drafts):
            trace.prompt_tokens = sum(map(len, asked.prompts))
            service.metrics.tokens("prompt", principal.name, trace.prompt_tokens)
            relay = Relay(
                service.engine,
                jobs,
                settings=settings,
                clock=service.clock,
                metrics=service.metrics,
                log=service.log.bind(request_id=trace.request_id),
            )
            stamp = Stamp(
                id=asked.prefix + trace.request_id,
                created=int(service.clock.now()),
                model=service.model.id,
                fingerprint=service.model.fingerprint,
            )
            sender = Sender(
                relay=relay,
                shape=asked.shape(stamp, asked.options.include_usage),
                trace=trace,
                clock=service.clock,
                metrics=service.metrics,
                send=send,
                send_timeout=settings.send_timeout,
            )
            async with relay:
                sending = (
                    sender.stream(include_usage=asked.options.include_usage)
                    if asked.options.stream
                    else sender.whole()
                )
                await _unless_gone(receive, sending)


async def _unless_gone(receive: Receive, sending: Coroutine[object, object, None]) -> None:
    """Run `sending` to its end, or until the client disconnects: ClientGoneError."""
    work = asyncio.ensure_future(sending)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
    if work.cancelled():
        raise ClientGoneError
    work.result()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
