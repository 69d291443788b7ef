"""One suite over every store that several holders share: `tidegate.ledger.lease_port`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from postgres_server import Server, server

from tidegate.errors import LedgerError
from tidegate.ledger import Budget, Budgets, HeadMovedError
from tidegate.ledger.entries import Command, Commit, Open, Reserve
from tidegate.ledger.errors import FencedError
from tidegate.ledger.lease_memory import MemoryCluster, SharedMemoryStore
from tidegate.ledger.lease_port import Claim, Seen, SharedStore
from tidegate.ledger.migrations import NEWEST, STEPS, migrate, version
from tidegate.ledger.state import EMPTY, Row, State, Tip, decide
from tidegate.ledger.store_postgres import PostgresStore
from tidegate.ledger.store_postgres_shared import SharedPostgresStore, claims_in, holders_in
from tidegate.ledger.verify import catch_up

EDGE = "inner→outside"
BUDGETS = Budgets(name="t", total=Budget(), edges=((EDGE, Budget()),), principal=Budget())
RESERVE = Reserve("alice", EDGE, 10)

Holder = Callable[[str], SharedStore]
_TABLES = count()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(params=["memory", "postgres"])
def holder(request: pytest.FixtureRequest) -> Holder:
    """Opens the one store as the holder of that name."""
    if request.param == "memory":
        cluster = MemoryCluster()
        return lambda name: SharedMemoryStore(cluster, name)
    url, table = request.getfixturevalue("postgres").url, f"shared_{next(_TABLES)}"
    return lambda name: SharedPostgresStore(url, name, table, replicated=False)


def write(store: SharedStore, *commands: Command) -> Tip:
    """Append `commands` at the end; the tip before them."""
    state = catch_up(store, State(BUDGETS))
    _, rows = decide(state, commands, time=0, wall=0)
    store.append(state.tip, rows)
    return state.tip


def test_each_start_of_a_holder_has_a_later_token(holder: Holder) -> None:
    assert [holder("a").join(), holder("a").join(), holder("b").join()] == [1, 2, 1]


def test_a_reservation_is_its_holders_until_it_is_settled(holder: Holder) -> None:
    one, two = holder("a"), holder("b")
    for store in (one, two):
        store.join()
    write(one, Open(BUDGETS), RESERVE, RESERVE)
    write(two, RESERVE)
    assert set(two.claims()) == {Claim(1, "a", 1), Claim(2, "a", 1), Claim(3, "b", 1)}
    write(one, Commit(1, 5), RESERVE)
    assert {claim.n for claim in one.claims() if claim.holder == "a"} == {2, 5}


def test_a_holder_that_was_replaced_writes_nothing(holder: Holder) -> None:
    old, new = holder("a"), holder("a")
    old.join()
    write(old, Open(BUDGETS), RESERVE)
    new.join()
    with pytest.raises(FencedError):
        write(old, RESERVE)
    with pytest.raises(FencedError):
        old.beat(hungry=False)
    assert new.tip().size == 2
    assert [claim.n for claim in new.claims()] == [1]


def test_a_holder_that_never_joined_writes_nothing(holder: Holder) -> None:
    holder("b").join()
    with pytest.raises(FencedError):
        write(holder("a"), RESERVE)
    assert holder("b").tip() == EMPTY


def test_a_write_on_another_head_leaves_no_claim(holder: Holder) -> None:
    store = holder("a")
    store.join()
    _, rows = decide(State(BUDGETS), [RESERVE], time=0, wall=0)
    write(store, Open(BUDGETS))
    with pytest.raises(HeadMovedError):
        store.append(EMPTY, rows)
    with pytest.raises(HeadMovedError):
        store.append(Tip(1, bytes(32)), [Row(rows[0].entry.replace(b'"n":0', b'"n":1'), b"x" * 32)])
    assert list(store.claims()) == []
    assert store.tip().size == 1


def test_every_write_and_every_beat_shows_that_a_holder_lives(holder: Holder) -> None:
    one, two = holder("a"), holder("b")
    one.join()
    two.join()

    def beats() -> int:
        return next(seen.beats for seen in two.beat(hungry=False) if seen.name == "a")

    first = beats()
    write(one, Open(BUDGETS))
    second = beats()
    one.beat(hungry=True)
    assert first < second < beats()
    assert {seen.name: seen.hungry for seen in two.beat(hungry=False)} == {"a": True, "b": False}


def test_a_holder_is_fenced_off_only_if_it_has_not_beaten_since(holder: Holder) -> None:
    one, two = holder("a"), holder("b")
    one.join()
    two.join()
    seen = next(seen for seen in two.beat(hungry=False) if seen.name == "a")
    one.beat(hungry=False)
    assert not two.fence_off(seen)
    one.beat(hungry=False)
    seen = next(seen for seen in two.beat(hungry=False) if seen.name == "a")
    assert two.fence_off(seen)
    assert not two.fence_off(seen)
    with pytest.raises(FencedError):
        one.beat(hungry=False)


def test_tables_of_the_first_version_are_migrated_and_keep_every_entry(postgres: Server) -> None:
    plain = PostgresStore(postgres.url, "olden")
    for part in ("holders", "leases", "schema"):
        plain.primary.together([f"DROP TABLE olden_{part}"])
    _, rows = decide(State(BUDGETS), [Open(BUDGETS), RESERVE], time=0, wall=0)
    plain.append(EMPTY, rows)
    assert version(plain.primary.run, "olden") == 1
    with pytest.raises(LedgerError, match="ledger migrate"):
        SharedPostgresStore(postgres.url, "a", "olden", replicated=False)
    assert migrate(plain.primary, "olden") == (1, NEWEST)
    assert migrate(plain.primary, "olden") == (NEWEST, NEWEST)
    store = SharedPostgresStore(postgres.url, "a", "olden", replicated=False)
    assert tuple(store.read(0, 9)) == rows
    assert store.join() == 1


def test_tables_of_a_later_version_are_refused(postgres: Server) -> None:
    plain = PostgresStore(postgres.url, "future")
    later = "INSERT INTO future_schema (version) VALUES (99)"
    plain.primary.together([later])
    with pytest.raises(LedgerError, match="Upgrade"):
        PostgresStore(postgres.url, "future")


def test_a_migration_that_breaks_leaves_the_tables_as_they_were(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = PostgresStore(postgres.url, "halfway")
    for part in ("holders", "leases", "schema"):
        plain.primary.together([f"DROP TABLE halfway_{part}"])
    broken = (*STEPS[:-1], (*STEPS[-1], "SELECT nonsense"))
    monkeypatch.setattr("tidegate.ledger.migrations.STEPS", broken)
    with pytest.raises(LedgerError, match="nonsense"):
        migrate(plain.primary, "halfway")
    monkeypatch.undo()
    assert version(plain.primary.run, "halfway") == 1
    assert migrate(plain.primary, "halfway") == (1, NEWEST)


def test_who_only_looks_sees_holders_and_claims(postgres: Server) -> None:
    store = SharedPostgresStore(postgres.url, "a", "looked", replicated=False)
    store.join()
    write(store, Open(BUDGETS), RESERVE)
    plain = PostgresStore(postgres.url, "looked")
    assert [(seen.name, seen.fence) for seen in holders_in(plain)] == [("a", 1)]
    assert claims_in(plain) == (Claim(1, "a", 1),)


def test_a_role_with_the_documented_grants_can_do_all_that_a_half_does(postgres: Server) -> None:
    owner = PostgresStore(postgres.url, "granted")
    howto = Path(__file__).parents[3] / "docs" / "howto" / "postgres.md"
    grants = re.findall(r"^GRANT .*;$", howto.read_text(), re.M)
    assert len(grants) == 4
    named = [
        grant.replace("tidegate_ledger", "granted").replace("TO tidegate", "TO half")
        for grant in grants
    ]
    owner.primary.together(["CREATE ROLE half LOGIN", *named])
    url = postgres.url.replace("tidegate@", "half@")
    store = SharedPostgresStore(url, "a", "granted", replicated=False)
    store.join()
    write(store, Open(BUDGETS), RESERVE)
    write(store, Commit(1, 5))
    assert not store.fence_off(Seen("b", 1, 0, hungry=False))
    assert [seen.beats for seen in store.beat(hungry=True)] == [2]
    assert list(store.claims()) == []
    for change in ("DELETE FROM granted", "DROP TABLE granted", "UPDATE granted SET n = n + 9"):
        with pytest.raises(LedgerError, match=r"permission|owner"):
            store.primary.together([change])
