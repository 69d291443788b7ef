"""One suite over every witness's memory: durable, compare-and-swap, chained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.transparency.errors import MovedError
from tidegate.transparency.witness_store import START, Mark, Seen, WitnessStore, next_mark
from tidegate.transparency.witness_store_memory import MemoryWitnessStore
from tidegate.transparency.witness_store_sqlite import SqliteWitnessStore

A, B, C = (Seen(origin, f"note of {origin}", 7) for origin in ("a", "b", "c"))

Reopen = Callable[[], WitnessStore]


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Opens the same memory again, as after a restart: one process has it at a time."""
    if request.param == "memory":
        store = MemoryWitnessStore()
        return lambda: store
    opened: list[SqliteWitnessStore] = []

    def again() -> WitnessStore:
        if opened:
            opened.pop().close()
        opened.append(SqliteWitnessStore(tmp_path / "witness.db"))
        return opened[0]

    return again


def test_a_new_memory_is_empty(reopen: Reopen) -> None:
    store = reopen()
    assert (store.mark(), store.before()) == (START, START)
    assert store.seen("a") is None
    assert tuple(store.all()) == ()
    assert tuple(store.accusations()) == ()


def test_what_was_kept_is_there_after_a_restart_and_chained(reopen: Reopen) -> None:
    reopen().keep(START, B)
    one = next_mark(START, B)
    reopen().keep(one, A)
    store = reopen()
    assert (store.mark(), store.before()) == (next_mark(one, A), one)
    assert store.seen("a") == A
    assert tuple(store.all()) == (A, B)
    newer = Seen("a", "a later note", 9)
    store.keep(store.mark(), newer)
    assert tuple(reopen().all()) == (newer, B)


@pytest.mark.parametrize("expected", [START, Mark(1, bytes(32)), Mark(2, next_mark(START, A).head)])
def test_nothing_is_kept_over_what_was_not_expected(reopen: Reopen, expected: Mark) -> None:
    store = reopen()
    store.keep(START, A)
    with pytest.raises(MovedError):
        store.keep(expected, C)
    assert tuple(reopen().all()) == (A,)


def test_an_accusation_stands_with_what_was_kept_then(reopen: Reopen) -> None:
    store = reopen()
    store.keep(START, A)
    store.accuse("a", "another")
    store.accuse("a", "another")
    store.keep(store.mark(), Seen("a", "later", 9))
    assert tuple(reopen().accusations()) == (("a", A.note, "another"),)
