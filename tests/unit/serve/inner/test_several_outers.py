"""One inner half behind several outer ones: a lane each, one strong model, one reasoning store."""

from __future__ import annotations

import asyncio
import socket

import pytest
from link_world import (
    QUICK,
    Answer,
    Job,
    MemoryPurse,
    TableModel,
    TableTokenizer,
    World,
    job,
    same,
)

from tidegate.clock import SystemClock
from tidegate.models.shared import SharedModel
from tidegate.sampling.seed import SeedService
from tidegate.serve.inner import server as server_module
from tidegate.serve.inner.engine import InnerEngine
from tidegate.serve.inner.reasoning import ReasoningStore
from tidegate.serve.inner.server import InnerServer, LifetimeAllowance, greet
from tidegate.serve.jobs import Failed, Finished
from tidegate.serve.outer.link import LinkEngine
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.serve.telemetry import Metrics
from tidegate.units import Bits, Seconds

SEED_KEY = b"a key of more than 16 bytes"


class Host:
    """An inner half with a lane for each secret; outer halves connect through `link`."""

    def __init__(self, secrets: dict[str, bytes], allowances: dict[str, int] | None = None) -> None:
        self.strong = TableModel(eos_logit=-30.0)
        shared = SharedModel(self.strong, gather=True)
        weak = SharedModel(TableModel(blur=0.7), gather=False)
        self.store = ReasoningStore(SystemClock())
        self.servers = [
            InnerServer(
                InnerEngine(shared.view(), weak.view(), TableTokenizer(), self.store, slots=8),
                secret,
                LifetimeAllowance(Bits((allowances or {}).get(lane, 10**9))),
                lane=lane,
                greeting_timeout=Seconds(2.0),
            )
            for lane, secret in secrets.items()
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        self._tasks.append(asyncio.create_task(greet(self.servers, reader, writer)))
        return await asyncio.open_connection(sock=ours)

    def link(self, secret: bytes, purse: MemoryPurse | None = None) -> LinkEngine:
        return LinkEngine(
            self.connect,
            secret,
            TableModel(blur=0.7),
            TableTokenizer(),
            SeedService(SEED_KEY),
            purse or MemoryPurse(),
            SystemClock(),
            Metrics(),
            LinkSettings(policy=QUICK, slots=8),
        )

    async def close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self.servers:
            server.close()


async def ask(link: LinkEngine, asked: Job) -> Answer:
    answer = Answer()
    async for event in link.stream(asked):
        answer.take(event)
    return answer


SECRETS = {"front": b"secret of the front", "side": b"secret of the side"}


async def test_outer_halves_do_not_hear_of_each_other_and_share_the_models_batches():
    host = Host(SECRETS)
    world = World(eos_logit=-30.0)
    links = [host.link(secret) for secret in SECRETS.values()]
    for link in links:
        link.start()
    # The same slots and the same prompts on both lanes: sequences must not be confused.
    jobs = [job(number) for number in range(4)]
    answers = await asyncio.gather(*(ask(link, one) for link in links for one in jobs))
    assert all(
        same(answer, world.expected(one)) for answer, one in zip(answers, jobs * 2, strict=True)
    )
    for link in links:
        await link.close()
    await host.close()


async def test_an_unknown_secret_opens_no_lane():
    host = Host(SECRETS)
    reader, writer = await host.connect()
    stranger = host.link(b"neither of the two")
    stranger.start()
    await asyncio.sleep(0.1)
    assert not stranger.totals.frames
    assert stranger.totals.incidents >= 1
    writer.close()
    await stranger.close()
    await host.close()
    assert await reader.read() == b""


async def test_what_a_lane_may_send_is_not_what_another_may():
    host = Host(SECRETS, {"front": 16})
    poor, rich = (host.link(secret) for secret in SECRETS.values())
    for link in (poor, rich):
        link.start()
    poor_end, rich_end = (
        answer.end for answer in await asyncio.gather(ask(poor, job(0)), ask(rich, job(1)))
    )
    assert isinstance(poor_end, Failed)
    assert isinstance(rich_end, Finished)
    assert poor.totals.bits <= 16
    for link in (poor, rich):
        await link.close()
    await host.close()


async def test_two_outer_halves_with_one_secret_disturb_each_other_and_no_other_lane():
    host = Host(SECRETS)
    front, twin, side = (host.link(SECRETS[name]) for name in ("front", "front", "side"))
    front.start()
    side.start()
    going = asyncio.create_task(ask(side, job(1, max_tokens=60)))
    assert isinstance((await ask(front, job(0))).end, Finished)
    twin.start()
    assert isinstance((await going).end, Finished)
    assert side.totals.incidents == 0
    async with asyncio.timeout(10):
        while not front.totals.incidents:
            await asyncio.sleep(0.005)
    for link in (front, twin, side):
        await link.close()
    await host.close()


@pytest.mark.parametrize("lane", SECRETS)
async def test_a_lane_is_busy_until_all_that_its_streams_said_may_be_known_outside(
    lane: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server_module, "SETTLING", 1000.0)
    host = Host(SECRETS)
    link = host.link(SECRETS[lane])
    link.start()
    server = next(server for server in host.servers if server.lane == lane)
    assert not server.busy
    # Inside, the stream is over long before: it runs ahead of what was pulled.
    async for _ in link.stream(job(0, max_tokens=90)):
        assert server.busy
    assert server.busy
    monkeypatch.setattr(server_module, "SETTLING", 0.0)
    monkeypatch.setattr(server_module, "UNPULLED", 0.0)
    assert not any(other.busy for other in host.servers)
    await link.close()
    await host.close()
