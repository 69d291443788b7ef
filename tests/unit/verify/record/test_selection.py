"""The choice is the key's alone, as often as was asked, and indifferent to how answers are cut."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_world import RecordWorld, read_all

from tidegate.errors import ConfigError
from tidegate.verify.selection import (
    EPOCH_ENTRIES,
    Policy,
    Subject,
    closed_epochs,
    commitment,
    draw,
    epoch_key,
    opens,
    selected,
    subject_of,
    threshold,
)
from tidegate.verify.selection_plan import detected, needed, plan

KEY = epoch_key(bytes(32), 0)
ONE = 1 << 128


def subject(number: int, tokens: int = 1) -> Subject:
    return Subject("example.com/record", number, hashlib.sha256(b"%d" % number).digest(), tokens)


def test_the_share_that_is_selected_is_the_share_asked_for() -> None:
    policy = Policy(Fraction(1, 20), by="message")
    hits = sum(selected(KEY, subject(number), policy) for number in range(4_000))
    # 200 expected, standard deviation 13.8; the key is fixed.
    assert 150 < hits < 250


def test_another_key_another_choice() -> None:
    policy = Policy(Fraction(1, 4), by="message")
    choices = [
        [selected(epoch_key(bytes(32), epoch), subject(n), policy) for n in range(200)]
        for epoch in range(2)
    ]
    assert choices[0] != choices[1]


@pytest.mark.parametrize("field", ["origin", "number", "digest"])
def test_the_lot_hangs_on_everything_the_record_says(field: str) -> None:
    other = {"origin": "example.com/other", "number": 8, "digest": bytes(32)}[field]
    base = Subject("example.com/record", 7, hashlib.sha256(b"x").digest(), 5)
    values = {name: getattr(base, name) for name in ("origin", "number", "digest", "tokens")}
    assert draw(KEY, base) != draw(KEY, Subject(**{**values, field: other}))


@given(
    st.fractions(0, 1, max_denominator=10**6),
    st.lists(st.integers(0, 5_000), min_size=1, max_size=6),
)
def test_cutting_an_answer_up_does_not_change_its_chance(
    rate: Fraction, lengths: list[int]
) -> None:
    policy = Policy(rate)
    missed = Fraction(1)
    for length in lengths:
        missed *= Fraction(ONE - threshold(policy, length), ONE)
    whole = Fraction(ONE - threshold(policy, sum(lengths)), ONE)
    assert abs(missed - whole) <= Fraction(100, ONE)


@given(st.fractions(0, 1, max_denominator=10**4), st.integers(0, 300))
def test_the_chance_is_exact_and_never_less_than_asked(rate: Fraction, tokens: int) -> None:
    exact = 1 - (1 - rate) ** tokens
    got = Fraction(threshold(Policy(rate), tokens), ONE)
    assert 0 <= got - exact <= Fraction(1_000, ONE)


def test_an_answer_belongs_to_the_epoch_in_which_it_was_signed() -> None:
    world = RecordWorld()
    world.open()
    world.answer("r1", [1, 2])
    (response,), summary = read_all(world.store)
    after, end = response.last, summary.entries
    subject = subject_of(response, "example.com/record", 0, end)
    assert subject == Subject("example.com/record", response.number, response.digest, 2)
    assert subject_of(response, "example.com/record", 0, after) is None
    assert subject_of(response, "example.com/record", end, end + 9) is None


def test_only_epochs_that_can_grow_no_more_are_closed() -> None:
    assert list(closed_epochs(EPOCH_ENTRIES - 1)) == []
    assert list(closed_epochs(2 * EPOCH_ENTRIES)) == [0, 1]


def test_all_and_none() -> None:
    assert all(selected(KEY, subject(n), Policy(Fraction(1), by="message")) for n in range(50))
    assert not any(selected(KEY, subject(n, 10_000), Policy(Fraction(0))) for n in range(50))
    assert not selected(KEY, subject(1, tokens=0), Policy(Fraction(1, 2)))


def test_a_revealed_key_opens_its_own_commitment_only() -> None:
    committed = commitment(KEY, "example.com/record", 0)
    assert opens(KEY, committed, "example.com/record", 0)
    assert not opens(epoch_key(bytes(32), 1), committed, "example.com/record", 0)
    assert not opens(KEY, committed, "example.com/record", 1)
    assert not opens(KEY, committed, "example.com/other", 0)


def test_a_bad_key_or_rate_is_refused() -> None:
    with pytest.raises(ConfigError):
        epoch_key(b"short", 0)
    with pytest.raises(ConfigError):
        draw(b"", subject(1))
    with pytest.raises(ConfigError):
        Policy(Fraction(3, 2))


def test_how_many_deviations_are_needed() -> None:
    assert needed(0.01, 0.99) == 459
    assert needed(0.5, 0.75) == 2
    assert needed(1.0, 0.99) == 1
    assert needed(0.0, 0.99) is None
    assert detected(0.01, 459) >= 0.99 > detected(0.01, 458)
    assert detected(1.0, 1) == 1.0
    assert detected(1.0, 1, power=0.5) == pytest.approx(0.5)
    with pytest.raises(ConfigError):
        needed(0.5, 1.0)


def test_a_plan_adds_up_and_is_finite_json() -> None:
    told = plan(Policy(Fraction(1, 100), by="message"), [100] * 50, replay_over_generate=0.25)
    assert told.expected_messages == pytest.approx(0.5)
    assert told.expected_tokens == pytest.approx(50)
    assert told.generation_share == pytest.approx(0.0025)
    assert {level.confidence: level.needed for level in told.levels}[0.99] == 459
    assert any("459" in line for line in told.lines())
    for policy in (Policy(Fraction(0)), Policy(Fraction(1))):
        raw = msgspec.json.encode(plan(policy, []))
        assert json.loads(raw, parse_constant=pytest.fail)["tokens"] == 0
    with pytest.raises(ConfigError):
        plan(Policy(Fraction(1)), [1], replay_over_generate=float("nan"))
