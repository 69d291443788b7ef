"""Bodies from anybody are bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tidegate.http_body import BodyError, read_body


async def parts(*given: bytes, then_wait: bool = False) -> AsyncIterator[bytes]:
    for part in given:
        yield part
    if then_wait:
        await asyncio.Event().wait()


async def test_a_body_is_all_of_its_parts():
    assert await read_body(parts(b"ab", b"", b"c"), most=3, within_s=60) == b"abc"


async def test_one_byte_too_many_is_refused_before_the_rest_is_read():
    endless = parts(b"ab", b"cd", then_wait=True)
    with pytest.raises(BodyError, match="at most 3 bytes") as refused:
        await read_body(endless, most=3, within_s=60)
    assert refused.value.status == 413


async def test_a_body_that_does_not_end_is_given_up():
    with pytest.raises(BodyError, match="in time") as refused:
        await read_body(parts(b"a", then_wait=True), most=3, within_s=0.01)
    assert refused.value.status == 408
