"""Reading reasoning inside: a socket of the inner zone's own, for authorised reviewers.

One request a connection, as a line of JSON; the store checks the credential and logs the attempt.
Nothing of it reaches the link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tidegate.errors import TidegateError
from tidegate.serve.inner.reasoning import ReasoningStore, ReviewRefusedError

_LONGEST: Final = 4096
_PATIENCE: Final = 10.0


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which reasoning, and who asks."""

    id: str
    credential: str


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reasoning, or why not."""

    text: str | None = None
    error: str | None = None


class ReviewServer:
    """`handle` is the callback for `asyncio.start_unix_server`."""

    def __init__(self, store: ReasoningStore, decode: Callable[[Sequence[int]], str]) -> None:
        self._store = store
        self._decode = decode

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        try:
            async with asyncio.timeout(_PATIENCE):
                line = await reader.readline()
                writer.write(msgspec.json.encode(self._answer(line)) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            # A line over the stream's limit is a ValueError; whoever sends one gets no answer.
            pass
        finally:
            writer.close()

    def _answer(self, line: bytes) -> Reply:
        try:
            if len(line) > _LONGEST:
                raise ReviewRefusedError("The request is too long.")
            request = msgspec.json.decode(line, type=Request)
            tokens = self._store.review(bytes.fromhex(request.id), request.credential)
        except TidegateError as error:
            return Reply(error=error.message)
        except (msgspec.DecodeError, ValueError):
            return Reply(error="The request is malformed.")
        return Reply(text=self._decode(tokens))


async def ask(address: str, record_id: str, credential: str) -> Reply:
    """Ask a running inner half. Raises OSError or msgspec.DecodeError."""
    reader, writer = await asyncio.open_unix_connection(address)
    try:
        writer.write(msgspec.json.encode(Request(record_id, credential)) + b"\n")
        await writer.drain()
        # To the end, not to the line's: a reader's limit is smaller than reasoning can be.
        return msgspec.json.decode(await reader.read(), type=Reply)
    finally:
        writer.close()
