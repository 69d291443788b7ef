"""The witness over HTTP: C2SP tlog-witness, `add-checkpoint` and the retrieval for monitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.http_body import BodyError, read_body
from tidegate.transparency.errors import LogError
from tidegate.transparency.witness import MAX_REQUEST_BYTES, Reply
from tidegate.transparency.witness_service import WitnessService

_BODY_S: Final = 10.0
"""A proof is a few kilobytes; who takes longer holds a connection that others could use."""


def witness_app(witness: WitnessService, failed: Callable[[LogError], None]) -> Starlette:
    """The application; `failed` hears why nothing could be cosigned, which a client is not told."""

    async def add(request: Request) -> Response:
        try:
            parts = request.stream()
            raw = await read_body(parts, most=MAX_REQUEST_BYTES, within_s=_BODY_S)
        except BodyError as error:
            return Response(f"{error.message}\n", error.status)
        except ClientDisconnect:
            return Response(status_code=400)
        return await answer(lambda: witness.add_checkpoint(raw))

    async def checkpoint(request: Request) -> Response:
        return await answer(lambda: witness.checkpoint(request.path_params["origin"]))

    async def answer(make: Callable[[], Reply]) -> Response:
        try:
            reply = await run_in_threadpool(make)
        except LogError as error:
            failed(error)
            return Response("the witness cannot cosign now\n", 503)
        headers = {"Content-Type": reply.content_type, "Cache-Control": "no-store"}
        return Response(reply.body, reply.status, headers)

    return Starlette(
        routes=[
            Route("/add-checkpoint", add, methods=["POST"]),
            Route("/{origin}/checkpoint", checkpoint, methods=["GET"]),
        ]
    )
