"""What a replica and each principal could carry, and in how many days the weights would be out.

Each bound rests on the scope's own tokens: a client who asks for random strings widens his own
admissible sets, and must not hide in the mean of everybody's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import msgspec

from tidegate.verify.bounds import (
    Ending,
    LeakBound,
    Tolerance,
    Traffic,
    counting_bound,
    scope_bounds,
)
from tidegate.verify.replay_tally import Carried, Tally
from tidegate.verify.sequential import tokens_to_alarm
from tidegate.verify.sequential_monitor import PRINCIPAL, REPLICA

_DAY: Final = 86_400_000
"""Milliseconds, the record's unit."""
_AT_ONCE: Final = 1.0
"""Verified tokens until an exact model's alarm: the first that differs is proof."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """One scope's bound; `scope` is replica or principal. A fleet's is the sum of its replicas'.

    `bits_a_token` and `share` of log2 V are None where no token was re-executed, so that nothing is
    known. `bits_a_day` goes by the tokens served over the record's time, None where that is none;
    `before_alarm_bits` may leave once besides, before a burst of other tokens raises the alarm.
    `days`: until the compressed weights are out; None where they never are, or nothing is known.
    """

    scope: str
    name: str
    answers: int
    tokens: int
    scored_tokens: int
    mismatches: int
    bits_a_token: float | None = None
    share: float | None = None
    bits_a_day: float | None = None
    before_alarm_bits: float | None = None
    days: float | None = None


class Stakes(msgspec.Struct, frozen=True, kw_only=True):
    """What the weights weigh in bits, what the ledger lets leave a day (None: no cap), and the
    share of tokens that is verified."""

    weight_bits: float
    sampled: float
    cap_bits_a_day: float | None = None


def bound_of(carried: Carried, tolerance: Tolerance) -> LeakBound:
    """The counting bound of answers of which at least one token was scored."""
    ended = Ending(tokens_a_message=1.0, max_tokens=1, verified=True)
    return replace(
        counting_bound(carried.value_bits / carried.scored, tolerance, ended),
        length_bits=carried.end_bits / carried.scored,
        choice_bits=carried.choice_bits / carried.scored,
    )


def scopes(tally: Tally, replica: str, tolerance: Tolerance, stakes: Stakes) -> tuple[Scope, ...]:
    """The replica first, then its principals: unknown ones, then by bits a token, most first."""
    whole = _scope(REPLICA, replica, tally.carried, tally, tolerance, stakes)
    each = [
        _scope(PRINCIPAL, name, carried, tally, tolerance, stakes)
        for name, carried in tally.principals.items()
    ]
    return (whole, *sorted(each, key=_unknown_first))


def most(rows: Iterable[Scope]) -> Scope | None:
    """The principal who could carry most a token, of those that anything is known of."""
    known = (row for row in rows if row.scope == PRINCIPAL and row.bits_a_token is not None)
    return next(known, None)


def _unknown_first(row: Scope) -> float:
    return -math.inf if row.bits_a_token is None else -row.bits_a_token


def _scope(
    scope: str, name: str, carried: Carried, tally: Tally, tolerance: Tolerance, stakes: Stakes
) -> Scope:
    row = Scope(
        scope=scope,
        name=name,
        answers=carried.answers,
        tokens=carried.served,
        scored_tokens=carried.scored,
        mismatches=carried.mismatches,
    )
    if not carried.scored:
        return row
    leak = bound_of(carried, tolerance)
    row = msgspec.structs.replace(row, bits_a_token=leak.bits_a_token, share=leak.share)
    lasted = 0 if tally.began is None else tally.ended - tally.began
    if not lasted:
        return row
    (bound,) = scope_bounds(
        leak,
        [
            Traffic(
                scope=scope,
                tokens_a_day=carried.served * _DAY / lasted,
                cap_bits_a_day=stakes.cap_bits_a_day,
            )
        ],
        weight_bits=stakes.weight_bits,
        tokens_to_alarm=_to_alarm(tally, scope, name),
        sampled=stakes.sampled,
    )
    return msgspec.structs.replace(
        row,
        bits_a_day=bound.bits_a_day,
        before_alarm_bits=bound.before_alarm_bits,
        days=bound.days if math.isfinite(bound.days) else None,
    )


def _to_alarm(tally: Tally, scope: str, name: str) -> float:
    """Verified tokens until a scope's own test alarms when every token deviates, hardest to see."""
    if tally.monitor is None or tally.null is None:
        return _AT_ONCE
    return tokens_to_alarm(tally.null, 1.0, 1.0, tally.monitor.false_alarms_of(scope, name))
