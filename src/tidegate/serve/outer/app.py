"""The HTTP application that users and their OpenAI clients see.

Serves `/v1/models`, `/v1/models/{id}`, `/v1/chat/completions`, `/v1/completions`, `/metrics`, and
for probes `/live` (the process runs), `/ready` and `/health` (it takes requests); everything else
is refused in OpenAI's error shape.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.typing import FilteringBoundLogger

from tidegate.clock import Clock
from tidegate.errors import LedgerError
from tidegate.ledger.accounts import Balance
from tidegate.ledger.budgets import TOTAL, Scope, edge_scope, principal_scope
from tidegate.openai_api.errors import ApiError, invalid, of_failure
from tidegate.openai_api.responses import model_body
from tidegate.serve.jobs import Engine
from tidegate.serve.outer.attempts import Attempts
from tidegate.serve.outer.http_admission import Admission
from tidegate.serve.outer.http_asked import PromptTokenizer, read_chat, read_completion
from tidegate.serve.outer.http_door import enter
from tidegate.serve.outer.http_generate import Generate, Service
from tidegate.serve.outer.http_observe import Observed, trace_of
from tidegate.serve.outer.http_settings import HttpSettings, ServedModel
from tidegate.serve.outer.keys import Keyring
from tidegate.serve.telemetry import METRICS_TYPE, Metrics


class LedgerView(Protocol):
    """The part of the ledger that is shown in metrics. Called from a thread."""

    def balance(self, scope: Scope) -> Balance:
        """One account now. Raises LedgerError."""
        ...


def mint_id() -> str:
    """A request's id: 128 random bits in hex, so that ids tell nothing about other requests."""
    return secrets.token_hex(16)


def create_app(
    *,
    engine: Engine,
    tokenizer: PromptTokenizer,
    keys: Keyring,
    model: ServedModel,
    ledger: LedgerView,
    edges: tuple[str, ...],
    settings: HttpSettings,
    clock: Clock,
    metrics: Metrics,
    log: FilteringBoundLogger,
    admission: Admission | None = None,
    mint: Callable[[], str] = mint_id,
) -> Starlette:
    """The application over one engine.

    Args:
        engine: answers jobs; may raise any `TidegateError`, before or while it answers.
        tokenizer: counts and renders prompts; called from threads.
        keys: who may ask.
        model: the one model that is named to users.
        ledger: balances for `/metrics`, of the total, of `edges`, and of everybody with a key.
        edges: the names of the edges between zones that answers cross.
        settings: limits and paces.
        clock: the outer clock; `created` and the ticks at which answers leave come from it.
        metrics: where requests are counted.
        log: one line a request goes there, without any text of a user's.
        admission: counts streams; whoever holds it can let no more begin.
        mint: makes request ids.
    """
    caps = settings.caps(model)
    service = Service(
        engine=engine,
        keys=keys,
        model=model,
        settings=settings,
        clock=clock,
        metrics=metrics,
        log=log,
        admission=admission or Admission(settings.streams_per_principal, settings.streams),
        attempts=Attempts(),
    )
    chat = partial(read_chat, model=model.id, caps=caps, tokenizer=tokenizer)
    completion = partial(read_completion, model=model.id, caps=caps, tokenizer=tokenizer)
    views = _Views(service, ledger, _scopes(edges, keys))
    app = Starlette(
        routes=[
            Route(route, Generate(service, route, read), methods=["POST"])
            for route, read in (("/v1/chat/completions", chat), ("/v1/completions", completion))
        ]
        + [
            Route("/v1/models", views.models),
            Route("/v1/models/{model:path}", views.model),
            Route("/health", views.ready),
            Route("/ready", views.ready),
            Route("/live", views.live),
            Route("/metrics", views.metrics),
        ],
        middleware=[Middleware(Observed, clock=clock, metrics=metrics, log=log, mint=mint)],
        exception_handlers={
            ApiError: partial(_refuse, metrics),
            HTTPException: partial(_refuse_route, metrics),
            Exception: partial(_broke, metrics),
        },
    )
    app.router.redirect_slashes = False
    return app


class _Views:
    """The endpoints that only show something."""

    def __init__(self, service: Service, ledger: LedgerView, scopes: tuple[Scope, ...]) -> None:
        self._service = service
        self._ledger = ledger
        self._scopes = scopes

    async def models(self, request: Request) -> Response:
        self._enter(request, "/v1/models")
        return _json({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._enter(request, "/v1/models/{id}")
        if request.path_params["model"] != self._service.model.id:
            raise invalid(
                "This model is not served here; GET /v1/models names the one that is.",
                param="model",
                code="model_not_found",
                status=404,
            )
        return _json(self._model())

    async def ready(self, request: Request) -> Response:
        trace_of(request.scope).route = request.url.path
        if self._service.admission.shut or not self._service.engine.healthy():
            raise of_failure("overloaded")
        return _json({"status": "ok"})

    async def live(self, request: Request) -> Response:
        trace_of(request.scope).route = "/live"
        return _json({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        trace_of(request.scope).route = "/metrics"
        if not self._service.settings.open_metrics:
            enter(request.scope, self._service.keys, "metrics")
        body = await asyncio.to_thread(self._scrape)
        return Response(body, headers={"content-type": METRICS_TYPE})

    def _scrape(self) -> bytes:
        metrics = self._service.metrics
        try:
            for scope in self._scopes:
                balance = self._ledger.balance(scope)
                metrics.budget(
                    scope, spent=balance.spent, reserved=balance.reserved, left=balance.left
                )
        except LedgerError as error:
            metrics.ledger(up=False)
            self._service.log.error("ledger_unreadable", code=error.code, reason=error.message)
        else:
            metrics.ledger(up=True)
        return metrics.render()

    def _enter(self, request: Request, route: str) -> None:
        trace_of(request.scope).route = route
        enter(request.scope, self._service.keys, "infer")

    def _model(self) -> dict[str, object]:
        model = self._service.model
        return model_body(model.id, model.created, model.owner)


def _scopes(edges: tuple[str, ...], keys: Keyring) -> tuple[Scope, ...]:
    return (
        TOTAL,
        *(edge_scope(edge) for edge in edges),
        *(principal_scope(principal) for principal in keys.principals()),
    )


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _tell(request: Request, metrics: Metrics, error: ApiError) -> Response:
    trace_of(request.scope).code = error.code
    metrics.refused(error.code)
    return Response(
        error.body(),
        status_code=error.status,
        headers=dict(error.headers),
        media_type="application/json",
    )


async def _refuse(metrics: Metrics, request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return _tell(request, metrics, error)


async def _refuse_route(metrics: Metrics, request: Request, error: Exception) -> Response:
    """Starlette's own refusals: an unknown path or method."""
    if not isinstance(error, HTTPException):
        raise error
    code, told = {
        404: ("unknown_url", "There is nothing at this URL."),
        405: ("method_not_allowed", "This method is not served at this URL."),
    }.get(error.status_code, ("refused", "This request is refused."))
    headers = tuple((error.headers or {}).items())
    return _tell(
        request, metrics, invalid(told, code=code, status=error.status_code, headers=headers)
    )


async def _broke(metrics: Metrics, request: Request, _error: Exception) -> Response:
    """A bug here. The user learns that, and nothing else; the traceback's place is logged."""
    return _tell(request, metrics, of_failure("internal_error"))
