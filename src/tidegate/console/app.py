"""The console over HTTP.

| path | who | what |
|---|---|---|
| `/`, `/login`, `/static/…` | everybody | pages without any figure in them |
| `/api/login`, `/api/logout` | everybody | begin and end a session |
| `/api/me` | a session | who that is, and the token that changes need |
| `/api/live` | a session | the picture and events as they come (server-sent events) |
| `/api/events`, `/api/events/N` | a session | events, a page at a time; one with its evidence |
| `/api/answers/N` | a session | an answer in the record; what was said, for whoever may read it |
| `/api/events/N/done` | operator | an alert is dealt with |
| `/api/grants/ID`, `/api/grants/ID/verdict` | approver | the exact request; a verdict on it |
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tidegate.clock import Clock
from tidegate.console.actions import Actions
from tidegate.console.errors import ConsoleError, SourceError
from tidegate.console.event import Asked
from tidegate.console.events import Events
from tidegate.console.guard import Door, Headers, refused, same_origin
from tidegate.console.hub import Hub
from tidegate.console.limits import LOGIN, LOGIN_NAME, REQUESTS, Limiter
from tidegate.console.people import MOST_PASSWORD, People, Role
from tidegate.console.records import Records
from tidegate.console.sessions import LONGEST_S, Session, Sessions
from tidegate.console.source_grants import Broker, VerdictAsked
from tidegate.console.watch import brief
from tidegate.http_body import BodyError, read_body

MAX_BODY: Final = 1 << 16
BEAT_S: Final = 10.0
_BODY_S: Final = 10.0
_KINDS: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_T = TypeVar("_T", bound=msgspec.Struct)
_Answer = Callable[[Request, Session], Awaitable[Response]]


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a login sends."""

    name: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the pages are made from."""

    people: People
    events: Events
    hub: Hub
    actions: Actions
    clock: Clock
    records: Records | None = None
    broker: Broker | None = None
    secure: bool = False


class Console:
    """The application (`app`). `hosts`: `host:port` as browsers may ask for it."""

    def __init__(self, parts: Parts, hosts: frozenset[str]) -> None:
        self._parts = parts
        self._sessions = Sessions(parts.people, parts.clock)
        self._logins = Limiter(LOGIN, parts.clock)
        self._named_logins = Limiter(LOGIN_NAME, parts.clock)
        requests = Limiter(REQUESTS, parts.clock)
        self._door = Door(self._sessions, requests, secure=parts.secure)
        static = {path.name: path.read_bytes() for path in _static()}
        self._static = {
            name: (raw, _KINDS[name[name.rindex(".") :]]) for name, raw in static.items()
        }
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/login", self._login_page),
                Route("/static/{name}", self._file),
                Route("/api/login", self._login, methods=["POST"]),
                self._route("/api/logout", self._logout, "POST"),
                self._route("/api/me", self._me),
                self._route("/api/live", self._live),
                self._route("/api/events", self._list),
                self._route("/api/events/{n:int}", self._event),
                self._route("/api/events/{n:int}/done", self._done, "POST", Role.OPERATOR),
                self._route("/api/answers/{n:int}", self._answer),
                self._route("/api/grants/{id}", self._grant, "GET", Role.APPROVER),
                self._route("/api/grants/{id}/verdict", self._verdict, "POST", Role.APPROVER),
            ],
            middleware=[
                Middleware(Headers, hosts=hosts, secure=parts.secure),
            ],
            exception_handlers={HTTPException: _http_error},
        )

    def _route(
        self, path: str, answer: _Answer, method: str = "GET", role: Role = Role.VIEWER
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            session = self._door.enter(request, role)
            if isinstance(session, Response):
                return session
            try:
                return await answer(request, session)
            except BodyError as error:
                return refused(error.status, error.message)
            except SourceError as error:
                return refused(409, error.message)
            except ConsoleError as error:
                return refused(503, error.message)
            except ClientDisconnect:
                return Response(status_code=400)

        return Route(path, endpoint, methods=[method])

    # Pages.

    async def _page(self, request: Request) -> Response:
        if self._sessions.of(self._door.token(request)) is None:
            return RedirectResponse("/login", 303)
        return self._named("index.html")

    async def _login_page(self, _: Request) -> Response:
        return self._named("login.html")

    async def _file(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        return self._named(name) if name in self._static else refused(404, "there is no such file")

    def _named(self, name: str) -> Response:
        raw, kind = self._static[name]
        return Response(raw, media_type=f"{kind}; charset=utf-8")

    # Sessions.

    async def _login(self, request: Request) -> Response:
        if not same_origin(request):
            return refused(403, "this did not come from the console's own page")
        try:
            given = await _body(request, Credentials)
        except BodyError as error:
            return refused(error.status, error.message)
        except SourceError as error:
            return refused(400, error.message)
        address = request.client.host if request.client else ""
        wait = max(self._logins.wait(address), self._named_logins.wait(given.name))
        if wait:
            await self._parts.actions.did("", "login_limited", given.name)
            return refused(429, "too many tries; wait", {"retry-after": f"{wait:.0f}"})
        if len(given.password) > MOST_PASSWORD:
            return refused(403, "wrong name or password")
        person = await asyncio.to_thread(self._parts.people.check, given.name, given.password)
        if person is None:
            await self._parts.actions.did("", "login_failed", given.name)
            return refused(403, "wrong name or password")
        self._logins.give_back(address)
        self._named_logins.give_back(given.name)
        self._sessions.end(self._door.token(request))
        token, session = self._sessions.begin(person)
        await self._parts.actions.did(person.name, "login")
        answer = _json(_who(session))
        answer.set_cookie(
            self._door.cookie,
            token,
            max_age=int(LONGEST_S),
            path="/",
            secure=self._door.secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _logout(self, request: Request, session: Session) -> Response:
        self._sessions.end(self._door.token(request))
        await self._parts.actions.did(session.person.name, "logout")
        answer = _json({})
        answer.delete_cookie(self._door.cookie, path="/", secure=self._door.secure, httponly=True)
        return answer

    async def _me(self, _: Request, session: Session) -> Response:
        return _json(_who(session))

    # What happens now, and what happened.

    async def _live(self, request: Request, _: Session) -> Response:
        if self._parts.hub.full:
            return refused(503, "too many viewers", {"retry-after": "30"})
        token = self._door.token(request)

        async def told() -> AsyncIterator[bytes]:
            async for message in self._parts.hub.watch(BEAT_S):
                if not self._sessions.lasts(token):
                    yield b"event: over\ndata: {}\n\n"
                    return
                yield message

        return StreamingResponse(told(), media_type="text/event-stream")

    async def _list(self, request: Request, _: Session) -> Response:
        try:
            asked = msgspec.convert(dict(request.query_params), Asked, strict=False)
        except msgspec.ValidationError as error:
            return refused(400, f"no such filter: {error}")
        page = await asyncio.to_thread(self._parts.events.page, asked)
        return _json(
            {"events": [msgspec.Raw(brief(kept)) for kept in page.events], "before": page.before}
        )

    async def _event(self, request: Request, session: Session) -> Response:
        kept = await asyncio.to_thread(self._parts.events.one, int(request.path_params["n"]))
        if kept is None:
            return refused(404, "there is no such event")
        await self._parts.actions.did(session.person.name, "opened_event", str(kept.n))
        return _json(kept)

    async def _done(self, request: Request, session: Session) -> Response:
        n = int(request.path_params["n"])
        await self._parts.actions.did(session.person.name, "closed_alert", str(n))
        if not await asyncio.to_thread(self._parts.events.finish, n):
            return refused(409, "there is no such open alert")
        return _json({})

    async def _answer(self, request: Request, session: Session) -> Response:
        if self._parts.records is None:
            return refused(404, "this console was given no record")
        number, person = int(request.path_params["n"]), session.person
        wanted = request.query_params.get("said") == "true"
        if wanted and not person.reads_prompts:
            await self._parts.actions.did(person.name, "prompt_refused", str(number))
            return refused(403, "you may not read what users wrote")
        # Written down before it is shown: who read what must not hang on the page arriving.
        action = "read_prompt" if wanted else "opened_answer"
        await self._parts.actions.did(person.name, action, str(number))
        found = await asyncio.to_thread(self._parts.records.answer, number, prompts=wanted)
        return _json(found)

    # Grants.

    async def _grant(self, request: Request, session: Session) -> Response:
        broker = self._broker()
        exact = await asyncio.to_thread(broker.exact, str(request.path_params["id"]))
        await self._parts.actions.did(
            session.person.name, "opened_grant", request.path_params["id"]
        )
        return _json(exact)

    async def _verdict(self, request: Request, session: Session) -> Response:
        broker, name = self._broker(), session.person.name
        asked = await _body(request, VerdictAsked)
        grant = str(request.path_params["id"])
        await self._parts.actions.did(name, f"verdict_{asked.verdict}", grant)
        view = await asyncio.to_thread(broker.judge, name, grant, asked)
        return _json({"status": view.status, "missing": view.missing})

    def _broker(self) -> Broker:
        if self._parts.broker is None:
            raise SourceError("this console was given no broker")
        return self._parts.broker


def _who(session: Session) -> dict[str, Any]:
    person = session.person
    return {
        "name": person.name,
        "role": person.role,
        "reads_prompts": person.reads_prompts,
        "csrf": session.csrf,
    }


def _static() -> list[Any]:
    folder = resources.files("tidegate.console") / "static"
    return [path for path in folder.iterdir() if path.name.endswith(tuple(_KINDS))]


async def _body(request: Request, kind: type[_T]) -> _T:
    """The body as a value. Raises BodyError; SourceError where it is something else."""
    raw = await read_body(request.stream(), most=MAX_BODY, within_s=_BODY_S)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"the request cannot be taken: {error}") from error


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return refused(error.status_code, error.detail)
