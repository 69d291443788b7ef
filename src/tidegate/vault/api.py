"""The broker over HTTP: authenticated, with fixed limits, and without a rule of its own.

Whatever may be refused is refused by the rules (`grant_rules`); this only says who asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.clock import Clock
from tidegate.errors import ConfigError, LedgerError, TidegateError
from tidegate.http_body import BodyError, read_body
from tidegate.transparency.errors import LogError
from tidegate.vault import api_bodies as bodies
from tidegate.vault.api_keys import Tokens
from tidegate.vault.broker import Broker
from tidegate.vault.grant_errors import ClockMovedError, GrantError, RefusedError

BODY_TIMEOUT_S = 10.0
CALLS_A_MINUTE = 120
"""Of one principal. People make a few; a host renews some times a lease."""

MOST_LISTED = 1_000
"""Grants in one answer, the newest; the journal and the log have all of them."""

_log = structlog.get_logger()
Call = Callable[[str, Request, bytes], msgspec.Struct]


class _TurnedAwayError(TidegateError):
    """A call that is turned away before the broker hears of it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Api:
    """The application (`app`). `tokens` say who asks; `clock` paces them."""

    def __init__(self, broker: Broker, tokens: Tokens, clock: Clock) -> None:
        self._broker = broker
        self._tokens = tokens
        self._clock = clock
        self._calls: dict[str, deque[float]] = {}
        self.app = Starlette(
            routes=[
                _route("/v1/grants", "POST", self._ask, self),
                _route("/v1/grants", "GET", self._list, self),
                _route("/v1/grants/{id}", "GET", self._show, self),
                _route("/v1/grants/{id}/verdict", "POST", self._judge, self),
                _route("/v1/grants/{id}/challenge", "POST", self._challenge, self),
                _route("/v1/grants/{id}/release", "POST", self._release, self),
                _route("/v1/grants/{id}/renew", "POST", self._renew, self),
                _route("/v1/grants/{id}/wipe", "POST", self._wipe, self),
                _route("/v1/grants/{id}/revoke", "POST", self._revoke, self),
                _route("/v1/manifests", "POST", self._manifest, self),
                _route("/v1/policy", "GET", self._policy, self),
            ]
        )

    async def answer(self, call: Call, request: Request) -> Response:
        """One call, from who asks to what is said back."""
        try:
            by = self._who(request)
            raw = await read_body(request.stream(), most=bodies.MAX_BODY, within_s=BODY_TIMEOUT_S)
            found = await run_in_threadpool(call, by, request, raw)
        except TidegateError as error:
            return _refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)
        return _json(200, found)

    def _who(self, request: Request) -> str:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        by = self._tokens.principal(token.strip()) if kind.lower() == "bearer" else None
        if by is None:
            raise _TurnedAwayError(
                401, "unknown_token", "Send your token as `Authorization: Bearer TOKEN`."
            )
        now = self._clock.monotonic()
        calls = self._calls.setdefault(by, deque())
        while calls and now - calls[0] >= 60:
            calls.popleft()
        if len(calls) >= CALLS_A_MINUTE:
            raise _TurnedAwayError(
                429, "too_many_calls", f"At most {CALLS_A_MINUTE} calls a minute."
            )
        calls.append(now)
        return by

    def _ask(self, by: str, _: Request, raw: bytes) -> msgspec.Struct:
        asked = bodies.decoded(raw, bodies.AskBody)
        made = self._broker.ask(
            by,
            asked.why,
            asked.model,
            asked.shards,
            asked.host,
            asked.seconds,
            asked.break_glass,
            asked.manifest,
        )
        return self._view(made.id)

    def _list(self, _by: str, request: Request, _raw: bytes) -> msgspec.Struct:
        if request.query_params.get("pending") == "true":
            chosen = self._broker.pending()
        else:
            self._broker.sweep()
            chosen = tuple(self._broker.state().grants.values())[-MOST_LISTED:]
        state = self._broker.state()
        return bodies.GrantsView(grants=tuple(bodies.view(state, grant) for grant in chosen))

    def _show(self, _by: str, request: Request, _raw: bytes) -> msgspec.Struct:
        self._broker.sweep()
        return self._view(_id(request))

    def _judge(self, by: str, request: Request, raw: bytes) -> msgspec.Struct:
        said = bodies.decoded(raw, bodies.VerdictBody)
        self._broker.judge(by, _id(request), said.verdict, said.team, said.assertion, said.reason)
        return self._view(_id(request))

    def _challenge(self, by: str, request: Request, raw: bytes) -> msgspec.Struct:
        bodies.decoded(raw, bodies.EmptyBody)
        return bodies.NonceBody(nonce=self._broker.challenge(by, _id(request)))

    def _release(self, by: str, request: Request, raw: bytes) -> msgspec.Struct:
        said = bodies.decoded(raw, bodies.ReleaseBody)
        package = self._broker.release(by, _id(request), said.evidence, said.key)
        return bodies.PackageBody(package=package)

    def _renew(self, by: str, request: Request, raw: bytes) -> msgspec.Struct:
        said = bodies.decoded(raw, bodies.RenewBody)
        return bodies.LeftBody(left_ms=self._broker.renew(by, _id(request), said.evidence))

    def _wipe(self, by: str, request: Request, raw: bytes) -> msgspec.Struct:
        bodies.decoded(raw, bodies.EmptyBody)
        self._broker.wipe(by, _id(request))
        return self._view(_id(request))

    def _revoke(self, by: str, request: Request, raw: bytes) -> msgspec.Struct:
        said = bodies.decoded(raw, bodies.RevokeBody)
        self._broker.revoke(by, _id(request), said.reason)
        return self._view(_id(request))

    def _manifest(self, by: str, _: Request, raw: bytes) -> msgspec.Struct:
        said = bodies.decoded(raw, bodies.ManifestBody)
        self._broker.set_current(by, said.model, said.manifest, said.shards)
        return said

    def _policy(self, _by: str, _request: Request, _raw: bytes) -> msgspec.Struct:
        policy = self._broker.state().policy
        if policy is None:
            raise GrantError("There is no policy yet.")
        return policy

    def _view(self, name: str) -> msgspec.Struct:
        return bodies.view(self._broker.state(), self._broker.grant(name))


def _id(request: Request) -> str:
    return str(request.path_params["id"])


def _route(path: str, method: str, call: Call, api: Api) -> Route:
    async def endpoint(request: Request) -> Response:
        return await api.answer(call, request)

    handler: Callable[[Request], Awaitable[Response]] = endpoint
    return Route(path, handler, methods=[method])


def _refusal(error: TidegateError) -> Response:
    status = _status(error)
    if status >= 500:
        _log.error("broker_failed", **error.diagnostics())
    body = bodies.RefusalBody(code=error.code, message=error.message)
    if isinstance(error, RefusedError):
        body = msgspec.structs.replace(
            body, what=error.what, check=error.check, rule=error.rule, reason=error.reason
        )
    return _json(status, body)


def _status(error: TidegateError) -> int:
    match error:
        case _TurnedAwayError(status=status) | BodyError(status=status):
            return status
        case RefusedError(rule="the grant exists"):
            return 404
        case RefusedError():
            return 403
        case ClockMovedError() | LedgerError() | LogError():
            return 503
        case ConfigError():
            return 400
        case _:
            return 500


def _json(status: int, body: msgspec.Struct) -> Response:
    # Nothing here is for a cache: what is pending changes, and a package is sent once.
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
