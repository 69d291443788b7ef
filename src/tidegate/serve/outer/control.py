"""The socket at which an operator on the outer half's host shows and drains its lanes.

One JSON line in, one JSON line out. It carries no text of anybody, and nothing inwards.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Final, Literal

import msgspec

from tidegate.errors import TidegateError
from tidegate.serve.outer.lanes import Lanes, Shown

_LONGEST: Final = 4096
_PATIENCE: Final = 10.0


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do, and with which lane. `drain` is answered once the lane is drained."""

    do: Literal["show", "drain", "undrain"]
    lane: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All lanes as they then are, or why nothing was done."""

    lanes: tuple[Shown, ...] = ()
    error: str = ""


class ControlServer:
    """`handle` is the callback for `asyncio.start_unix_server`."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        try:
            async with asyncio.timeout(_PATIENCE):
                line = await reader.readline()
            writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
            await writer.drain()
        except (OSError, TimeoutError, ValueError):
            # A line over the stream's limit is a ValueError; whoever sends one gets no answer.
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Reply:
        try:
            if len(line) > _LONGEST:
                return Reply(error="The request is too long.")
            request = msgspec.json.decode(line, type=Request)
            match request.do:
                case "drain":
                    await self._lanes.drain(request.lane)
                case "undrain":
                    self._lanes.undrain(request.lane)
        except TidegateError as error:
            return Reply(error=error.message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Reply(error="The request is malformed.")
        return Reply(lanes=self._lanes.shown())


async def ask(address: str, request: Request) -> Reply:
    """Ask a running outer half. Raises OSError or msgspec.DecodeError."""
    reader, writer = await asyncio.open_unix_connection(address)
    try:
        writer.write(msgspec.json.encode(request) + b"\n")
        await writer.drain()
        return msgspec.json.decode(await reader.read(), type=Reply)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
