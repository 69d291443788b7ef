"""What was said to a real server and what it answered, recorded once and played back.

A played server answers only what was recorded, request by request and byte by byte, so a change of
what we send is seen as surely as a change of what we understand. `tools/record_engine.py` records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Exchange(msgspec.Struct, frozen=True):
    """One request and its answer; bodies are text."""

    method: str
    path: str
    asked: str
    status: int
    kind: str
    answered: str


class Transcript(msgspec.Struct, frozen=True):
    """A conversation, and what made the other side."""

    engine: str
    version: str
    model: str
    how: str
    exchanges: tuple[Exchange, ...]


@dataclass
class Recorder:
    """Passes requests on to `target` and keeps what was said; `url` is set while it runs."""

    target: str
    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._pass, methods=["GET", "POST"])])

    async def _pass(self, request: Request) -> Response:
        body = await request.body()
        async with httpx2.AsyncClient(timeout=300, trust_env=False) as client:
            answer = await client.request(
                request.method,
                self.target + request.url.path,
                content=body,
                headers={"content-type": "application/json"},
            )
        kind = answer.headers.get("content-type", "")
        self.exchanges.append(
            Exchange(
                request.method,
                request.url.path,
                body.decode(),
                answer.status_code,
                kind,
                answer.text,
            )
        )
        return Response(answer.content, answer.status_code, media_type=kind)


@dataclass
class Player:
    """Answers what was recorded and 599 to everything else; `url` is set while it runs."""

    transcript: Transcript
    url: str = ""
    unknown: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._play, methods=["GET", "POST"])])

    async def _play(self, request: Request) -> Response:
        asked = (request.method, request.url.path, (await request.body()).decode())
        for one in self.transcript.exchanges:
            if (one.method, one.path, one.asked) == asked:
                return Response(one.answered, one.status, media_type=one.kind)
        self.unknown.append(f"{asked[0]} {asked[1]} {asked[2]}")
        return Response(status_code=599)


def load(path: Path) -> Transcript:
    """A recorded conversation."""
    return msgspec.json.decode(path.read_bytes(), type=Transcript)
