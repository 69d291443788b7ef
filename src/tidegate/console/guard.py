"""What stands before every page: headers for browsers, who asks, how often, and from where.

1. The host asked for is the console's own (DNS rebinding).
2. Every answer forbids foreign scripts, frames, requests and guesses at types.
3. Whatever changes something comes from the console's own page (Origin) with the session's token.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidegate.console.limits import Limiter
from tidegate.console.people import Role
from tidegate.console.sessions import Session, Sessions, same

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), "
    "publickey-credentials-get=(self)",
    "cache-control": "no-store",
}
CSRF: Final = "x-csrf-token"


class Headers:
    """ASGI middleware: `HEADERS` on every answer, and only for the console's own hosts."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], secure: bool) -> None:
        self._app, self._hosts = app, hosts
        more = {"strict-transport-security": "max-age=31536000"} if secure else {}
        self._headers = {**HEADERS, **more}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if Request(scope).headers.get("host", "") not in self._hosts:
            await refused(421, "this console has another name")(scope, receive, headed)
            return
        await self._app(scope, receive, headed)


class Door:
    """Who asks. `cookie`: the session's."""

    def __init__(self, sessions: Sessions, requests: Limiter, *, secure: bool) -> None:
        self.sessions = sessions
        self._requests = requests
        self.secure = secure
        # The prefix makes browsers refuse a cookie that another host or path has set.
        self.cookie = "__Host-tidegate" if secure else "tidegate"

    def token(self, request: Request) -> str | None:
        """The session's token, if the browser has one."""
        return request.cookies.get(self.cookie)

    def enter(self, request: Request, role: Role = Role.VIEWER) -> Session | Response:
        """The session that asks, or the refusal: 401, 403, or 429 with `retry-after`."""
        session = self.sessions.of(self.token(request))
        if session is None:
            return refused(401, "log in first")
        wait = self._requests.wait(session.csrf)
        if wait:
            return refused(429, "too many requests", {"retry-after": f"{wait:.0f}"})
        if not session.person.may(role):
            return refused(403, f"this is for whoever has the role {role}")
        if request.method not in ("GET", "HEAD") and not self._own(request, session):
            return refused(403, "this did not come from the console's own page")
        return session

    @staticmethod
    def _own(request: Request, session: Session) -> bool:
        return same_origin(request) and same(request.headers.get(CSRF, ""), session.csrf)


def same_origin(request: Request) -> bool:
    """Whether a page of this console sent it, as browsers say themselves."""
    origin = request.headers.get("origin")
    return origin == f"{request.url.scheme}://{request.headers.get('host', '')}"


def refused(status: int, says: str, headers: dict[str, str] | None = None) -> Response:
    """An error as JSON."""
    return JSONResponse({"error": says}, status_code=status, headers=headers)
