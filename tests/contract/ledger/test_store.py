"""One suite over every store: the contract in `tidegate.ledger.store`, clause by clause."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pg8000.dbapi
import pytest
from postgres_server import Server, server

from tidegate.clock import ManualClock
from tidegate.errors import ConfigError, LedgerError
from tidegate.ledger import (
    TOTAL,
    Budget,
    Budgets,
    HeadMovedError,
    Ledger,
    MemoryStore,
    Sound,
    SqliteStore,
    Store,
)
from tidegate.ledger.state import EMPTY, Row, Tip
from tidegate.ledger.store_postgres import PostgresStore

ROWS = tuple(Row(b"entry %d" % n, bytes([n]) * 32) for n in range(5))
EDGE = "inner→outside"

Reopen = Callable[[], Store]
_TABLES = count()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Opens the same log again, as another writer or after a restart would."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url
        table = f"log_{next(_TABLES)}"
        return lambda: PostgresStore(url, table)
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    return lambda: SqliteStore(tmp_path / "ledger.db")


def test_a_new_store_is_empty(reopen: Reopen) -> None:
    assert reopen().tip() == EMPTY
    assert reopen().read(0, 10) == ()


def test_what_was_appended_is_there_for_everybody_on_return(reopen: Reopen) -> None:
    reopen().append(EMPTY, ROWS[:3])
    assert reopen().tip() == Tip(3, ROWS[2].head)
    reopen().append(Tip(3, ROWS[2].head), ROWS[3:])
    assert tuple(reopen().read(0, 10)) == ROWS


def test_rows_are_read_in_order_a_page_at_a_time(reopen: Reopen) -> None:
    store = reopen()
    store.append(EMPTY, ROWS)
    assert tuple(store.read(1, 2)) == ROWS[1:3]
    assert tuple(store.read(4, 9)) == ROWS[4:]
    assert tuple(store.read(5, 9)) == ()


@pytest.mark.parametrize(
    "expected", [EMPTY, Tip(1, ROWS[0].head), Tip(2, bytes(32)), Tip(3, ROWS[1].head)]
)
def test_nothing_is_written_on_top_of_another_head(reopen: Reopen, expected: Tip) -> None:
    store = reopen()
    store.append(EMPTY, ROWS[:2])
    with pytest.raises(HeadMovedError):
        store.append(expected, ROWS[2:])
    assert store.tip() == Tip(2, ROWS[1].head)
    store.append(store.tip(), ROWS[2:])
    assert tuple(store.read(0, 10)) == ROWS


def test_of_many_appends_on_one_head_one_wins(reopen: Reopen) -> None:
    stores = [reopen() for _ in range(4)]
    outcomes: list[bool] = []

    def race(store: Store, row: Row) -> None:
        try:
            store.append(EMPTY, [row])
            outcomes.append(True)
        except HeadMovedError:
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


def test_ledgers_in_many_threads_never_overspend_together(reopen: Reopen) -> None:
    budgets = Budgets(
        name="t", total=Budget(lifetime=200), edges=((EDGE, Budget()),), principal=Budget()
    )
    ledgers = [Ledger(reopen(), budgets, ManualClock()) for _ in range(2)]

    def work(ledger: Ledger) -> None:
        for _ in range(5):
            ledger.commit(ledger.reserve("alice", EDGE, 10), 10)

    threads = [threading.Thread(target=work, args=(ledgers[i % 2],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    balances = {ledger.balance(TOTAL) for ledger in ledgers}
    assert {(b.spent, b.reserved, b.left) for b in balances} == {(200, 0, 0)}
    assert isinstance(ledgers[0].verify(), Sound)


def test_what_a_postgres_server_committed_survives_its_crash(postgres: Server) -> None:
    store = PostgresStore(postgres.url, "crashed")
    store.append(EMPTY, ROWS[:3])
    postgres.kill()
    with pytest.raises(LedgerError):
        store.append(Tip(3, ROWS[2].head), ROWS[3:])
    postgres.start()
    assert store.tip() == Tip(3, ROWS[2].head)
    store.append(store.tip(), ROWS[3:])
    assert tuple(PostgresStore(postgres.url, "crashed").read(0, 9)) == ROWS


def test_a_postgres_table_takes_no_change_of_what_was_written(postgres: Server) -> None:
    PostgresStore(postgres.url, "final").append(EMPTY, ROWS)
    with closing(_connected(postgres)) as other:
        for change in ("DELETE FROM final", "UPDATE final SET n = n + 9", "TRUNCATE final"):
            with pytest.raises(pg8000.dbapi.Error, match="append-only"):
                other.cursor().execute(change)
            other.rollback()


@pytest.mark.parametrize("url", ["", "sqlite:///x", "postgresql://host/db"])
def test_a_url_that_is_not_postgres_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        PostgresStore(url)


def _connected(postgres: Server) -> pg8000.dbapi.Connection:
    socket = str(postgres.folder / ".s.PGSQL.5432")
    return pg8000.dbapi.connect(user="tidegate", database="postgres", unix_sock=socket)
