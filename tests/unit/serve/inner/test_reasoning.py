"""Reasoning is kept for its owner, for a while, within bounds, and read by reviewers only."""

from __future__ import annotations

import pytest

from tidegate.clock import ManualClock
from tidegate.serve.inner.reasoning import ReasoningStore, ReviewRefusedError, credential_digest
from tidegate.units import Seconds

ALICE, BOB = b"a" * 16, b"b" * 16


def store(clock: ManualClock | None = None) -> ReasoningStore:
    return ReasoningStore(
        clock or ManualClock(),
        reviewers=(credential_digest("first"), credential_digest("second")),
        max_tokens=100,
        max_age=Seconds(60.0),
    )


def test_only_the_owner_gets_it_back() -> None:
    kept = store()
    kept.put(b"1" * 16, ALICE, (1, 2))
    assert kept.get(b"1" * 16, ALICE) == (1, 2)
    assert kept.get(b"1" * 16, BOB) is None
    assert kept.get(b"2" * 16, ALICE) is None


def test_an_id_is_never_given_to_other_reasoning() -> None:
    kept = store()
    kept.put(b"1" * 16, ALICE, (1, 2))
    kept.put(b"1" * 16, BOB, (3,))
    assert kept.get(b"1" * 16, ALICE) == (1, 2)
    assert kept.get(b"1" * 16, BOB) is None


def test_it_is_forgotten_after_its_time() -> None:
    clock = ManualClock()
    kept = store(clock)
    kept.put(b"1" * 16, ALICE, (1,))
    clock.advance(59)
    assert kept.get(b"1" * 16, ALICE) == (1,)
    clock.advance(2)
    assert kept.get(b"1" * 16, ALICE) is None
    with pytest.raises(ReviewRefusedError):
        kept.review(b"1" * 16, "first")


def test_the_oldest_goes_when_there_is_no_room() -> None:
    kept = store()
    for number in range(5):
        kept.put(bytes([number]) * 16, ALICE, (number,) * 30)
    held = [number for number in range(5) if kept.get(bytes([number]) * 16, ALICE)]
    assert held == [2, 3, 4]
    kept.put(b"9" * 16, ALICE, (1,) * 101)
    assert kept.get(b"9" * 16, ALICE) is None
    assert kept.get(bytes([4]) * 16, ALICE) is not None


@pytest.mark.parametrize("credential", ["", "third", "First", "first "])
def test_a_stranger_reads_nothing(credential: str) -> None:
    kept = store()
    kept.put(b"1" * 16, ALICE, (1,))
    with pytest.raises(ReviewRefusedError):
        kept.review(b"1" * 16, credential)


def test_each_reviewer_reads() -> None:
    kept = store()
    kept.put(b"1" * 16, ALICE, (1,))
    assert kept.review(b"1" * 16, "first") == kept.review(b"1" * 16, "second") == (1,)
