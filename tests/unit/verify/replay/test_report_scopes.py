"""Whose tokens could carry how much: nobody hides in the mean of all."""

from __future__ import annotations

import math

import msgspec
import pytest
from record_world import STACK, beginning

from tidegate.record.entries import End, Reason
from tidegate.verify.bounds import COMPRESSION, Tolerance
from tidegate.verify.record_response import Response
from tidegate.verify.replay_answer import Checked
from tidegate.verify.replay_tally import PRINCIPALS, REST, Meta, Tally
from tidegate.verify.report_scopes import Scope, Stakes, most, scopes
from tidegate.verify.sequential import Counts, Null
from tidegate.verify.sequential_monitor import Monitor

V = 1 << 10
EXACT = Tolerance(suspicious=0.0, dangerous=0.0, rank=1, vocab_size=V)
STAKES = Stakes(weight_bits=1e9, sampled=0.5)
DAY = 86_400_000


def served(principal: str, tokens: int = 10, began: int = 0, ended: int = 1_000) -> Response:
    return Response(
        number=0,
        last=1,
        began=began,
        ended=ended,
        stack=STACK,
        begin=msgspec.structs.replace(beginning(), principal=principal),
        prefill=None,
        tokens=(1,) * tokens,
        chunks=(),
        end=End(0, Reason.LENGTH, "", tokens, 0),
        digest=b"",
    )


def verified(tally: Tally, principal: str, bits: float = 0.0, tokens: int = 10) -> None:
    counts = Counts(tokens, 0, 0)
    one = Checked(
        response=0,
        digest="00",
        tokens=tokens,
        counts=counts,
        watched=counts,
        ended=True,
        value_bits=bits,
    )
    tally.fold(one, Meta("replica", principal, 64, 1))


def rows(tally: Tally, stakes: Stakes = STAKES) -> tuple[Scope, ...]:
    return scopes(tally, "example.com/r", EXACT, stakes)


def test_a_client_who_widens_his_own_admissible_sets_stands_first_and_above_the_mean():
    tally = Tally()
    for principal, bits in (("alice", 0.1), ("mallory", 7.2), ("bob", 0.2)):
        tally.see(served(principal))
        verified(tally, principal, bits)
    replica, *principals = rows(tally)
    assert (replica.scope, replica.name) == ("replica", "example.com/r")
    assert replica.bits_a_token == pytest.approx(0.25)
    assert [row.name for row in principals] == ["mallory", "bob", "alice"]
    assert principals[0].bits_a_token == pytest.approx(0.72)
    assert most((replica, *principals)) == principals[0]


def test_a_principal_of_whom_nothing_was_drawn_is_unknown_not_innocent():
    tally = Tally()
    tally.see(served("alice"))
    tally.see(served("shy"))
    verified(tally, "alice", 1.0)
    _, first, second = rows(tally)
    assert (first.name, first.bits_a_token, first.days) == ("shy", None, None)
    assert most(rows(tally)) == second


def test_days_go_by_the_tokens_that_were_served_and_by_the_cap_where_it_is_smaller():
    tally = Tally()
    tally.see(served("alice", tokens=500, ended=DAY // 2))
    verified(tally, "alice", bits=10.0, tokens=100)
    (replica, _) = rows(tally)
    assert replica.bits_a_day == pytest.approx(0.1 * 1_000)
    burst = 1 / STAKES.sampled * math.log2(V)  # one other token, of which half are verified
    assert replica.before_alarm_bits == pytest.approx(burst)
    assert replica.days == pytest.approx((1e9 / COMPRESSION - burst) / 100)
    capped = rows(tally, msgspec.structs.replace(STAKES, cap_bits_a_day=50.0))[0]
    assert capped.bits_a_day == 50.0
    assert capped.days == pytest.approx(replica.days * 2)


def test_what_cannot_leave_or_has_no_duration_has_no_days():
    still = Tally()
    still.see(served("alice", ended=0))
    verified(still, "alice", bits=1.0)
    assert [(row.bits_a_day, row.days) for row in rows(still)] == [(None, None)] * 2
    tight = Tally()
    tight.see(served("alice"))
    verified(tight, "alice")
    assert [(row.bits_a_day, row.days) for row in rows(tight)] == [(0.0, None)] * 2


def test_a_principals_own_test_has_the_smaller_share_of_false_alarms_and_takes_longer():
    tally = Tally(Null(0.01, 0.001), Monitor(false_alarms=1e-6))
    for principal in ("first", "second"):
        tally.see(served(principal))
        verified(tally, principal)
    _, *principals = rows(tally)
    burst = {row.name: row.before_alarm_bits for row in principals}
    assert burst["first"] is not None
    assert burst["second"] is not None
    assert burst["first"] < burst["second"]


def test_accounts_are_bounded_however_many_names_a_record_holds():
    tally = Tally()
    for number in range(PRINCIPALS + 3):
        tally.see(served(f"p{number}"))
    assert len(tally.principals) == PRINCIPALS + 1
    assert tally.principals[REST].served == 30
