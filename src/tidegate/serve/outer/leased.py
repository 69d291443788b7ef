"""Waits for bits before a job joins, where they are lent by a database that may be slow.

Nothing on the way of a token waits for it: streams draw on leases this half holds. Only a request
whose principal has no lease yet, or a spent one, is held up, for as long as patience lasts. Then it
is told to come again, and nothing was charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Future
from contextlib import aclosing
from typing import Protocol, cast

from tidegate.errors import LedgerError
from tidegate.ledger.errors import NotLentError
from tidegate.serve.jobs import Engine, Event, Job
from tidegate.serve.outer.link_account import SLICE, worst_case
from tidegate.units import Bits, Seconds


class Lender(Protocol):
    """What lends bits; `ledger.lease.LeaseDesk`."""

    def live(self) -> bool:
        """Whether the ledger was heard of lately enough to draw on what is held."""
        ...

    def has(self, principal: str, bits: Bits) -> bool:
        """Whether so many bits can be reserved at once."""
        ...

    def wait(self, principal: str, bits: Bits) -> Future[None]:
        """Done when they can be; fails with BudgetExceededError or NotLentError."""
        ...


class LedgerBusyError(LedgerError):
    """A request got no bits in time. Nothing was charged; `retry_after_s` says when to come."""

    code = "ledger_busy"


class LeasedEngine:
    """`serve.jobs.Engine` around one whose purse draws on leases."""

    def __init__(
        self, engine: Engine, lender: Lender, *, patience: Seconds, max_reasoning: int
    ) -> None:
        """`max_reasoning`: the longest reasoning of the inner half, in tokens."""
        self._engine = engine
        self._lender = lender
        self._patience = patience
        self._max_reasoning = max_reasoning

    def healthy(self) -> bool:
        """Whether the engine behind is, and there is anything to draw on."""
        return self._engine.healthy() and self._lender.live()

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        """See `Engine.stream`.

        Raises:
            BudgetExceededError: at the first iteration; nothing was charged.
            LedgerBusyError: at the first iteration; nothing was charged.
        """
        begun = False
        try:
            await self._lent(job.principal, Bits(min(SLICE, worst_case(job, self._max_reasoning))))
            stream = cast("AsyncGenerator[Event, None]", self._engine.stream(job))
            async with aclosing(stream) as events:
                async for event in events:
                    begun = True
                    yield event
        except NotLentError as error:
            if begun:
                raise
            raise LedgerBusyError(error.message, retry_after_s=float(self._patience)) from error

    async def _lent(self, principal: str, bits: Bits) -> None:
        try:
            async with asyncio.timeout(self._patience):
                while not self._lender.has(principal, bits):
                    await asyncio.wrap_future(self._lender.wait(principal, bits))
        except TimeoutError as error:
            raise NotLentError(
                "The ledger's database has not answered in time; nothing was charged.",
                retry_after_s=float(self._patience),
            ) from error
