"""A database that is slow or gone: what is held goes on, the rest is a 503, all is charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tidegate.clock import SystemClock
from tidegate.errors import TidegateError
from tidegate.ledger import TOTAL, Budget, Budgets
from tidegate.ledger.lease import LeaseDesk, LeaseTerms
from tidegate.ledger.lease_keeper import LeaseKeeper
from tidegate.ledger.lease_memory import MemoryCluster, SharedMemoryStore
from tidegate.ledger.state import State
from tidegate.ledger.verify import catch_up
from tidegate.serve.jobs import Event, Finished, Job
from tidegate.serve.outer.leased import LeasedEngine
from tidegate.serve.outer.link_account import SLICE
from tidegate.units import Bits, Seconds

EDGE = "inner→outside"
COST = 100
BUDGETS = Budgets(
    name="t",
    total=Budget(lifetime=10**6),
    edges=((EDGE, Budget()),),
    principal=Budget(),
    principals=(("bob", Budget(lifetime=COST)),),
)


class PayingEngine:
    """Draws a slice and lets a part of it cross, as the link does for a stream."""

    def __init__(self, desk: LeaseDesk, stream: Callable[[Job], AsyncIterator[Event]]) -> None:
        self._desk = desk
        self._stream = stream
        self.crossed = 0

    def healthy(self) -> bool:
        return True

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        number = self._desk.reserve(job.principal, Bits(SLICE))
        async for event in self._stream(job):
            if isinstance(event, Finished):
                self.crossed += COST
                self._desk.commit(number, Bits(COST))
            yield event


class Leased:
    def __init__(self, site: Any) -> None:
        self.cluster = MemoryCluster()
        terms = LeaseTerms(chunk=2 * SLICE, standing=64, lasts=60.0, beat=0.02, patience=0.3)
        self.desk = LeaseDesk(SystemClock(), lambda _: (EDGE,), "link", terms)
        store = SharedMemoryStore(self.cluster, "outer-1")
        self.keeper = LeaseKeeper(self.desk, store, "outer-1", BUDGETS, SystemClock())
        self.paying = PayingEngine(self.desk, site.engine.stream)
        self.engine = LeasedEngine(self.paying, self.desk, patience=Seconds(0.3), max_reasoning=0)

    def counted(self) -> int:
        account = catch_up(self.cluster.rows, State(BUDGETS)).account(TOTAL)
        return account.spent + account.reserved


@pytest.fixture
def leased(make_site: Any) -> Iterator[tuple[Any, Leased]]:
    site = make_site()
    made = Leased(site)
    site.engine.stream = made.engine.stream
    made.keeper.start()
    yield site, made
    made.keeper.close()


async def test_an_answer_is_paid_from_a_lease_that_the_database_lent(
    leased: tuple[Any, Leased],
) -> None:
    site, made = leased
    reply = await site.post()
    assert reply.status == 200
    made.keeper.close()
    assert made.counted() == made.paying.crossed == COST


async def test_a_database_that_is_gone_is_a_503_that_says_when_to_come_again(
    leased: tuple[Any, Leased],
) -> None:
    site, made = leased
    made.cluster.down = True
    reply = await site.post()
    assert reply.status == 503
    assert reply.error["code"] == "ledger_busy"
    assert int(reply.headers["retry-after"]) >= 1
    assert "x-should-retry" not in reply.headers  # nothing was charged: clients may try again
    assert made.paying.crossed == 0
    made.cluster.down = False
    assert (await site.post()).status == 200


async def test_what_is_held_is_drawn_on_while_the_database_is_gone(
    leased: tuple[Any, Leased],
) -> None:
    site, made = leased
    assert (await site.post()).status == 200
    while not made.desk.has("alice", Bits(SLICE)):
        await asyncio.sleep(0.01)
    made.cluster.down = True
    assert (await site.post()).status == 200
    assert made.counted() >= made.paying.crossed == 2 * COST


async def test_a_spent_budget_is_a_429_and_not_a_503(leased: tuple[Any, Leased]) -> None:
    site, _ = leased
    body = {"model": "org/model", "messages": [{"role": "user", "content": "hello"}]}
    reply = await site.caller()("POST", "/v1/chat/completions", body, key="key-of-bob")
    assert reply.status == 429
    assert reply.error["code"] == "upload_budget_exceeded"


@pytest.mark.parametrize("code", ["ledger_not_lent", "ledger_error", "ledger_split_brain"])
async def test_a_stream_that_paid_already_fails_with_a_503_that_is_not_retried(
    make_site: Any, code: str
) -> None:
    error = TidegateError("told to operators")
    error.code = code
    reply = await make_site([error]).post()
    assert reply.status == 503
    assert reply.error["code"] == "ledger_unavailable"
    assert reply.headers["x-should-retry"] == "false"
    assert int(reply.headers["retry-after"]) >= 1


async def test_a_half_with_nothing_to_draw_on_is_not_healthy(leased: tuple[Any, Leased]) -> None:
    _, made = leased
    assert made.engine.healthy()
    made.desk.stop_drawing()
    made.cluster.down = True
    assert not made.engine.healthy()
