"""What is checked before a request is read: who asks, what kind of body, how long."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from tidegate.openai_api.errors import ApiError, invalid
from tidegate.serve.outer import keys
from tidegate.serve.outer.http_observe import trace_of
from tidegate.serve.outer.http_settings import HttpSettings

_CLOSE = (("connection", "close"),)
"""With refusals that leave a body unread: the rest of it is not worth receiving."""


class ClientGoneError(Exception):
    """The client closed the connection; there is nobody to answer."""


def enter(scope: Scope, keyring: keys.Keyring, needed: keys.Scope) -> keys.Principal:
    """Who is asking. Raises ApiError: 401 without a known key, 403 for a key that may not."""
    presented = Headers(scope=scope).getlist("authorization")
    kind, _, key = presented[0].partition(" ") if len(presented) == 1 else ("", "", "")
    client = scope.get("client")
    principal = None
    if kind.lower() == "bearer":
        principal = keyring.principal(key.strip(), client[0] if client else None)
    if principal is None:
        raise invalid(
            "Send a valid key as `Authorization: Bearer KEY`.",
            code="invalid_api_key",
            status=401,
            headers=(("www-authenticate", "Bearer"), *_CLOSE),
        )
    trace_of(scope).principal = principal.name
    if needed not in principal.scopes:
        raise invalid(
            f"This key lacks the scope '{needed}'.",
            code="insufficient_scope",
            status=403,
            headers=_CLOSE,
        )
    return principal


async def read_body(scope: Scope, receive: Receive, settings: HttpSettings) -> bytes:
    """The whole body. Raises ApiError (408, 413, 415), or ClientGoneError."""
    headers = Headers(scope=scope)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or "content-encoding" in headers:
        raise invalid(
            "The body must be plain application/json.",
            code="unsupported_media_type",
            status=415,
            headers=_CLOSE,
        )
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > settings.max_body:
        raise _too_large(settings)
    try:
        async with asyncio.timeout(settings.body_timeout):
            return await _read(receive, settings)
    except TimeoutError:
        raise invalid(
            "The body did not arrive in time.",
            code="request_timeout",
            status=408,
            headers=_CLOSE,
        ) from None


async def _read(receive: Receive, settings: HttpSettings) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > settings.max_body:
            raise _too_large(settings)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(settings: HttpSettings) -> ApiError:
    return invalid(
        f"The body must be at most {settings.max_body} bytes.",
        code="request_too_large",
        status=413,
        headers=_CLOSE,
    )
