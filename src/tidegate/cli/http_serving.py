"""A small application on a socket, until a signal: the log's tiles, a witness."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
import uvicorn
from starlette.types import ASGIApp

from tidegate.disk import replace_whole
from tidegate.serve.outer.http_server import bound, server_config


def serve(app: ASGIApp, host: str, port: int, ready: Path | None) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        app: the application.
        host: the address to listen on.
        port: 0 takes a free one.
        ready: gets the port once connections are taken.

    Raises:
        ConfigError: the address cannot be had.
    """
    listener = bound(host, port)
    chosen = listener.getsockname()[1]
    if ready is not None:
        replace_whole(ready, f"{chosen}".encode())
    typer.echo(f"listening on http://{host}:{chosen}", err=True)
    config = server_config(app, host=host, port=chosen, log_stream=sys.stderr)
    uvicorn.Server(config).run(sockets=[listener])
