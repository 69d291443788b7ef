"""A stream whose bits are lent lives on what it has while the ledger's database is slow."""

from __future__ import annotations

import pytest

from tidegate.errors import BudgetExceededError, TidegateError
from tidegate.ledger.errors import NotLentError
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.serve.jobs import Failed, Job
from tidegate.serve.outer.link_account import SLICE, Accounts
from tidegate.serve.outer.link_stream import LAST_BITS, Stream, make_join
from tidegate.units import Bits

SLOW = NotLentError("The database has not answered.", retry_after_s=2.0)
SPENT = BudgetExceededError("The budget is spent.")


class SlowPurse:
    """Lends a first slice, and then what `trouble` says."""

    trouble: TidegateError | None = SLOW

    def reserve(self, principal: str, bits: Bits) -> int:
        return 1

    def extend(self, reservation: int, bits: Bits) -> None:
        if self.trouble is not None:
            raise self.trouble

    def commit(self, reservation: int, bits: Bits) -> None:
        pass

    release = charge = commit


def opened(purse: SlowPurse) -> tuple[Stream, Accounts]:
    job = Job(
        request_id="r",
        choice=0,
        principal="alice",
        prompt_ids=(1,),
        params=SamplingParams(),
        limits=Limits(max_tokens=1000),
    )
    accounts = Accounts(purse)
    join = make_join(job, bytes(32), None, 10)
    return Stream(join, accounts.open("alice", Bits(10 * SLICE))), accounts


async def test_it_goes_on_while_it_has_bits_and_is_renewed_once_there_are_more() -> None:
    purse = SlowPurse()
    stream, accounts = opened(purse)
    stream.account.charged = SLICE - LAST_BITS
    stream.renew(accounts)
    assert not stream.over
    purse.trouble = None
    stream.renew(accounts)
    assert stream.account.room == SLICE + LAST_BITS
    assert not stream.over


@pytest.mark.parametrize(("trouble", "left"), [(SLOW, LAST_BITS - 1), (SPENT, LAST_BITS)])
async def test_it_ends_with_the_reason_once_it_has_too_few(
    trouble: TidegateError, left: int
) -> None:
    purse = SlowPurse()
    purse.trouble = trouble
    stream, accounts = opened(purse)
    stream.account.charged = SLICE - left
    stream.renew(accounts)
    assert stream.cancelled
    (event,) = [event async for event in stream.events()]
    assert event == Failed(trouble.code, trouble.message)
