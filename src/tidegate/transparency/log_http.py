"""The log over HTTP, for anybody who follows it: C2SP tlog-tiles, read only."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidegate.transparency.log import Log
from tidegate.transparency.note import Checkpoint, note_text
from tidegate.transparency.tiles import Tile, read

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "max-age=1"}
_TILE = {
    "Content-Type": "application/octet-stream",
    "Cache-Control": "max-age=31536000, immutable",
}


def log_app(log: Log) -> Starlette:
    """The application. Nothing is served that is not under the last signed checkpoint."""

    def checkpoint(_: Request) -> Response:
        note = log.kept()
        return _missing() if note is None else Response(note, headers=_TEXT)

    async def tile(request: Request) -> Response:
        asked = Tile.parse("tile/" + request.path_params["path"])
        return _missing() if asked is None else await run_in_threadpool(_read, asked)

    def _read(asked: Tile) -> Response:
        note = log.kept()
        if note is None or not asked.within(Checkpoint.parse(note_text(note)).size):
            return _missing()
        return Response(read(log, asked), headers=_TILE)

    return Starlette(routes=[Route("/checkpoint", checkpoint), Route("/tile/{path:path}", tile)])


def _missing() -> Response:
    return Response("there is no such resource\n", 404)
