"""How the application is put on a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import uvicorn
from starlette.types import ASGIApp

from tidegate.errors import ConfigError
from tidegate.serve.telemetry import uvicorn_log_config


class HttpServer(uvicorn.Server):
    """uvicorn's server, ended by whoever runs it: its own handlers would take SIGTERM for the end
    of accepting, before running answers were given time."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the half."""
        yield


def server_config(app: ASGIApp, *, host: str, port: int, log_stream: TextIO) -> uvicorn.Config:
    """uvicorn as Tidegate wants it.

    No access log, since paths and queries are the client's text (`http_observe` logs requests); no
    headers that name software; no proxy headers, since anybody could claim to be on loopback; no
    websockets.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=uvicorn_log_config(log_stream),
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        limit_concurrency=2048,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=1 << 16,
    )


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
