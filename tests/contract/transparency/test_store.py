"""One suite over every store: the contract in `tidegate.transparency.store`, clause by clause."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.clock import ManualClock
from tidegate.transparency.entry import Kind
from tidegate.transparency.errors import LogError, MovedError
from tidegate.transparency.log import Log
from tidegate.transparency.store import EMPTY, Row, Store, Tip
from tidegate.transparency.store_memory import MemoryStore
from tidegate.transparency.store_sqlite import SqliteStore
from tidegate.transparency.tree import leaf_hash, root_of

ROWS = tuple(Row(b"entry %d" % n, f"id {n}", bytes([n]) * 32 * (n % 2 + 1)) for n in range(5))

Reopen = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Opens the same log again, as another writer or after a restart would."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    return lambda: SqliteStore(tmp_path / "log.db")


def tip_of(rows: tuple[Row, ...]) -> Tip:
    return Tip(len(rows), rows[-1].hashes[:32])


def test_a_new_store_is_empty(reopen: Reopen) -> None:
    assert reopen().tip() == EMPTY
    assert reopen().read(0, 10) == ()
    assert reopen().kept("a") is None
    assert reopen().find("id 0") is None


def test_what_was_appended_is_there_for_everybody_on_return(reopen: Reopen) -> None:
    reopen().append(EMPTY, ROWS[:3])
    assert reopen().tip() == tip_of(ROWS[:3])
    reopen().append(tip_of(ROWS[:3]), ROWS[3:])
    assert tuple(reopen().read(0, 10)) == tuple(row.entry for row in ROWS)
    assert tuple(reopen().hashes([4, 0, 3])) == (ROWS[4].hashes, ROWS[0].hashes, ROWS[3].hashes)
    assert reopen().find("id 4") == 4


def test_entries_are_read_in_order_a_page_at_a_time(reopen: Reopen) -> None:
    store = reopen()
    store.append(EMPTY, ROWS)
    assert tuple(store.read(1, 2)) == (b"entry 1", b"entry 2")
    assert tuple(store.read(4, 9)) == (b"entry 4",)
    assert tuple(store.read(5, 9)) == ()


@pytest.mark.parametrize("number", [-1, 5, 2**40])
def test_hashes_of_what_is_not_there_are_an_error(reopen: Reopen, number: int) -> None:
    store = reopen()
    store.append(EMPTY, ROWS)
    with pytest.raises(LogError):
        store.hashes([1, number])


@pytest.mark.parametrize("expected", [EMPTY, Tip(1, bytes(32)), Tip(2, bytes(32)), tip_of(ROWS)])
def test_nothing_is_written_on_top_of_another_tip(reopen: Reopen, expected: Tip) -> None:
    store = reopen()
    store.append(EMPTY, ROWS[:2])
    with pytest.raises(MovedError):
        store.append(expected, ROWS[2:])
    assert store.tip() == tip_of(ROWS[:2])
    store.append(store.tip(), ROWS[2:])
    assert len(store.read(0, 10)) == 5


def test_an_id_is_taken_once_and_nothing_else_of_that_write_is_stored(reopen: Reopen) -> None:
    store = reopen()
    store.append(EMPTY, ROWS[:2])
    with pytest.raises(MovedError):
        store.append(store.tip(), [ROWS[2], ROWS[1]])
    assert store.tip() == tip_of(ROWS[:2])
    assert store.find("id 2") is None


def test_any_number_of_rows_have_no_id(reopen: Reopen) -> None:
    store = reopen()
    store.append(EMPTY, [row._replace(id=None) for row in ROWS])
    assert store.tip().size == 5


def test_a_note_replaces_only_the_one_it_was_made_for(reopen: Reopen) -> None:
    reopen().keep("a", None, "one")
    with pytest.raises(MovedError):
        reopen().keep("a", None, "two")
    with pytest.raises(MovedError):
        reopen().keep("a", "zero", "two")
    assert reopen().kept("a") == "one"
    reopen().keep("a", "one", "two")
    assert reopen().kept("a") == "two"
    assert reopen().kept("b") is None


def test_of_many_appends_on_one_tip_one_wins(reopen: Reopen) -> None:
    stores = [reopen() for _ in range(4)]
    outcomes: list[bool] = []

    def race(store: Store, row: Row) -> None:
        try:
            store.append(EMPTY, [row])
            outcomes.append(True)
        except MovedError:
            outcomes.append(False)

    threads = [
        threading.Thread(target=race, args=pair) for pair in zip(stores, ROWS[:4], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, False, False, True]
    assert stores[0].tip().size == 1


def test_logs_in_many_threads_make_one_tree_and_log_every_event_once(reopen: Reopen) -> None:
    logs = [Log(reopen(), ManualClock()) for _ in range(2)]

    def work(log: Log) -> None:
        for n in range(6):
            log.append(Kind.GRANT, {"n": n}, once=f"event {n}")

    threads = [threading.Thread(target=work, args=(logs[i % 2],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list(logs[0].entries())
    assert sorted(logged.entry.body["n"] for logged in found) == list(range(6))
    assert logs[1].root(6) == root_of([leaf_hash(logged.raw) for logged in found])
