"""The body of a request from somebody who may be anybody: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

from tidegate.errors import TidegateError


class BodyError(TidegateError):
    """A body that is too large or too slow; `status` is the answer's, 413 or 408."""

    code = "body_refused"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status=status)
        self.status = status


async def read_body(parts: AsyncIterable[bytes], *, most: int, within_s: float) -> bytes:
    """All parts, at most `most` bytes that arrive in `within_s` seconds. Raises BodyError."""
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for part in parts:
                body += part
                if len(body) > most:
                    raise BodyError(f"The body is too large: at most {most} bytes.", 413)
    except TimeoutError:
        raise BodyError("The body did not arrive in time.", 408) from None
    return bytes(body)
