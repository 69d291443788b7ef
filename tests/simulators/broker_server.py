"""The broker's API on a real socket, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from grant_world import APPROVERS, World

from tidegate.vault.api import Api
from tidegate.vault.api_client import BrokerClient
from tidegate.vault.api_keys import Tokens, mint

PEOPLE = ("alice", "mallory", "oscar", *APPROVERS)


class Served:
    """A world behind HTTP: its address, and everybody's token."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tokens = {name: mint() for name in PEOPLE}
        known = Tokens()
        for name, token in self.tokens.items():
            known = known.with_token(name, token)
        self.api = Api(world.broker, known, world.clock)
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def client(self, name: str) -> BrokerClient:
        return BrokerClient(self.url, self.tokens[name])


@contextmanager
def serving(world: World, pem: Path | None = None) -> Iterator[Served]:
    """Over TLS where `pem` holds a certificate and its key."""
    served = Served(world)
    served.scheme = "https" if pem else "http"
    config = uvicorn.Config(
        served.api.app, host="127.0.0.1", port=0, log_level="error", ssl_certfile=pem
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    served.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.should_exit = True
        thread.join(10)
