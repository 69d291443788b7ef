"""Sockets that a half listens on while a context is open."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

from tidegate.cli.ground import host_port
from tidegate.errors import ConfigError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


@contextlib.asynccontextmanager
async def listening(address: str, handle: Handler) -> AsyncIterator[asyncio.Server]:
    """Accept connections while the context is open; leaving it ends those that are.

    `address` is a socket's path or host:port. Closing the server accepts no more of them and ends
    none. Raises ConfigError.
    """
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        server = await _start(address, accept)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error}") from error
    try:
        yield server
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _start(address: str, accept: Accept) -> asyncio.Server:
    host, port = host_port(address)
    if host is not None:
        return await asyncio.start_server(accept, host, port)
    path = Path(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket():
        path.unlink()  # left by a half that was killed
    before = os.umask(0o077)
    try:
        return await asyncio.start_unix_server(accept, path)
    finally:
        os.umask(before)
