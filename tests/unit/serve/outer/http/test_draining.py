"""A half that was told to stop: what has begun ends, nothing begins, and probes are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tidegate.openai_api.errors import ApiError
from tidegate.serve.outer.http_admission import Admission


async def test_it_is_alive_whatever_becomes_of_its_engine(make_site: Any) -> None:
    site = make_site()
    site.engine.well = False
    for path, status in (("/live", 200), ("/ready", 503), ("/health", 503)):
        assert (await site.caller()("GET", path, key=None)).status == status


async def test_once_shut_it_is_not_ready_and_takes_nothing(make_site: Any, say: Any) -> None:
    admission = Admission(8, 8)
    site = make_site(say("hello"), admission=admission)
    assert (await site.caller()("GET", "/ready", key=None)).status == 200
    admission.shut_down()
    assert (await site.caller()("GET", "/ready", key=None)).status == 503
    assert (await site.caller()("GET", "/live", key=None)).status == 200
    refused = await site.post()
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert not site.engine.jobs


async def test_it_is_empty_once_the_last_stream_has_ended() -> None:
    admission = Admission(8, 8)
    async with asyncio.timeout(5):
        await admission.emptied()
    with admission.admit("ann", 2):
        with admission.admit("bob", 1):
            admission.shut_down()
            waiting = asyncio.create_task(admission.emptied())
        await asyncio.sleep(0)
        assert not waiting.done()
        with pytest.raises(ApiError), admission.admit("ann", 1):
            pass
    async with asyncio.timeout(5):
        await waiting


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_sessions_name_reaches_the_engine(make_site: Any, say: Any, path: str) -> None:
    site = make_site(say("a"), say("b"))
    await site.post(path, prompt_cache_key="chat 7")
    await site.post(path)
    assert [job.session for job in site.engine.jobs] == ["chat 7", ""]
    refused = await site.post(path, prompt_cache_key="x" * 257)
    assert refused.status == 400
    assert refused.error["param"] == "prompt_cache_key"
