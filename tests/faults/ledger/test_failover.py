"""A real primary and its standby: killed, promoted, split, rolled back. Nothing goes uncharged."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from tidegate.bench.fleet_postgres_cluster import Cluster, Node, PostgresMissingError, cluster
from tidegate.clock import SystemClock
from tidegate.errors import LedgerError
from tidegate.ledger import TOTAL, Budget, Budgets, Ledger, Sound, SqliteStore, verify
from tidegate.ledger.backup import CopyingStore, extends
from tidegate.ledger.backup_reconcile import charge_branch, lost_branches
from tidegate.ledger.entries import Open
from tidegate.ledger.errors import (
    NotLentError,
    RolledBackError,
    SplitBrainError,
    UnreplicatedError,
)
from tidegate.ledger.lease import LeaseDesk, LeaseTerms
from tidegate.ledger.lease_keeper import LeaseKeeper
from tidegate.ledger.state import EMPTY, State
from tidegate.ledger.store_postgres import PostgresStore
from tidegate.ledger.store_postgres_shared import SharedPostgresStore
from tidegate.ledger.verify import catch_up
from tidegate.units import Bits

EDGE = "inner→outside"
WIDE = Budgets(
    name="t", total=Budget(lifetime=10**9), edges=((EDGE, Budget()),), principal=Budget()
)
TERMS = LeaseTerms(chunk=1_000, standing=100, lasts=60.0, beat=0.0, patience=0.2)
_TABLES = count()


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    try:
        with cluster() as running:
            yield running
    except PostgresMissingError as error:
        pytest.skip(f"{error.message}: its failover is not tested here")


class Outer:
    """An outer half's purse, whose keeper goes round when it is told to."""

    def __init__(self, urls: tuple[str, ...], table: str, name: str, folder: Path) -> None:
        self.incidents: list[str] = []
        self.copy = SqliteStore(folder / f"{name}.sqlite")
        clock = SystemClock()
        self.desk = LeaseDesk(clock, lambda _: (EDGE,), "link", TERMS)
        store = SharedPostgresStore(urls, name, table, extends=self.copy.tip, timeout=4.0)
        self.keeper = LeaseKeeper(
            self.desk, CopyingStore(store, self.copy), name, WIDE, clock, self.incidents.append
        )
        self.keeper.round()
        self.sent = 0

    def send(self, bits: int) -> None:
        number = self.desk.reserve("alice", Bits(bits))
        self.sent += bits
        self.desk.commit(number, Bits(bits))

    def ready(self, bits: int = 100) -> None:
        for _ in range(100):
            if self.desk.has("alice", Bits(bits)):
                return
            self.desk.wait("alice", Bits(bits))
            self.keeper.round()
        raise AssertionError(f"no bits came: {self.incidents}")


Make = Callable[..., Outer]


@pytest.fixture
def table() -> str:
    return f"failover_{next(_TABLES)}"


@pytest.fixture
def outer(shared: Cluster, tmp_path: Path, table: str) -> Make:
    return lambda name="outer-1": Outer(shared.urls, table, name, tmp_path)


def counted(shared: Cluster, table: str) -> int:
    log = PostgresStore(shared.primary.url, table)
    verdict = verify(log, WIDE)
    assert isinstance(verdict, Sound)
    balance = verdict.state.account(TOTAL).balance(verdict.state.time)
    log.close()
    return balance.spent + balance.reserved


def test_streams_draw_through_a_failover_and_no_charge_is_forgotten(
    shared: Cluster, outer: Make, table: str
) -> None:
    one, two = outer("outer-1"), outer("outer-2")
    for half in (one, two):
        half.ready()
        half.send(100)
    shared.primary.kill()
    one.send(200)  # from what it holds already
    one.keeper.round()
    assert one.incidents == ["ledger_error"]
    shared.standby.promote()
    shared.primary, shared.standby = shared.standby, shared.primary
    shared.standby.follow(shared.primary)
    for half in (one, two):
        half.ready(1_500)
        half.send(700)
        half.keeper.close()
    assert counted(shared, table) == one.sent + two.sent == 1_800


def test_no_bits_are_lent_while_nothing_takes_writes(shared: Cluster, outer: Make) -> None:
    half = outer()
    half.ready()
    shared.primary.kill()
    told = half.desk.wait("alice", Bits(10**6))
    half.keeper.round()
    while not told.done():
        half.keeper.round()
    error = told.exception()
    assert isinstance(error, NotLentError)
    assert error.details["retry_after_s"] == TERMS.patience
    shared.primary.start()
    half.ready()


def test_an_append_that_no_standby_has_is_not_acknowledged(
    shared: Cluster, outer: Make, table: str
) -> None:
    half = outer()
    half.ready()
    half.send(100)
    shared.standby.kill()
    half.desk.wait("alice", Bits(5_000))
    half.keeper.round()
    assert half.incidents == ["ledger_error"]
    assert not half.desk.has("alice", Bits(5_000))
    shared.standby.start()
    half.ready(5_000)
    assert counted(shared, table) >= 5_100


def test_a_primary_that_waits_for_nobody_is_refused(
    shared: Cluster, outer: Make, table: str
) -> None:
    half = outer()
    half.ready()
    shared.primary.set("synchronous_standby_names", "")
    try:
        half.desk.wait("alice", Bits(5_000))
        half.keeper.round()
        assert half.incidents == ["ledger_unreplicated"]
        assert not half.desk.live()
        with pytest.raises(UnreplicatedError, match="synchronous_standby_names"):
            SharedPostgresStore(shared.urls, "outer-9", table)
        PostgresStore(shared.primary.url, table)  # for who takes the risk knowingly
    finally:
        shared.primary.set("synchronous_standby_names", "*")
    half.ready(5_000)


def test_a_commit_whose_wait_was_cancelled_is_in_doubt(shared: Cluster, table: str) -> None:
    store = PostgresStore(shared.urls, table, replicated=True, timeout=20.0)
    ledger = Ledger(store, WIDE, SystemClock())
    shared.standby.kill()
    cancel = threading.Timer(
        0.7,
        lambda: shared.primary.ask(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        ),
    )
    cancel.start()
    try:
        with pytest.raises(UnreplicatedError, match="stopped waiting"):
            ledger.record(Open(WIDE))
    finally:
        cancel.join()
        shared.standby.start()


def test_two_primaries_are_a_split_brain_until_one_is_gone(
    shared: Cluster, outer: Make, table: str
) -> None:
    half = outer()
    half.ready()
    half.send(100)
    shared.standby.promote()
    # The old one still answers, and a standby that somebody gave it acknowledges what it writes.
    for _ in range(6):
        half.keeper.round()
    assert "ledger_split_brain" in half.incidents
    with pytest.raises(NotLentError):
        half.send(1)
    with pytest.raises(SplitBrainError, match="Shut down"):
        SharedPostgresStore(shared.urls, "outer-9", table)
    shared.primary, shared.standby = shared.standby, shared.primary
    shared.standby.follow(shared.primary)
    half.ready()
    half.send(100)
    half.keeper.close()
    assert counted(shared, table) == 200


def test_a_primary_that_was_replaced_is_refused_by_its_timeline(
    shared: Cluster, table: str, tmp_path: Path
) -> None:
    """Reachable alone, with its old data and somebody who acknowledges: a partition."""
    store = PostgresStore(shared.urls, table)
    old = Node(tmp_path_of(shared) / "old")
    backup(shared, old)
    shared.fail_over()
    with suppress(LedgerError):
        store.tip()  # finds the connection broken
    store.tip()
    old.start()
    try:
        stale = PostgresStore((old.url,), table)
        stale.primary.hang_up()
        stale.primary.server = store.primary.server
        with pytest.raises(SplitBrainError, match="timeline"):
            stale.tip()
    finally:
        old.stop()


def tmp_path_of(shared: Cluster) -> Path:
    return shared.primary.folder.parent


def backup(shared: Cluster, node: Node) -> None:
    """What an operator with `pg_basebackup` has, days later."""
    where = f"host={shared.primary.folder} user=tidegate"
    node.run("pg_basebackup", "-d", where, "-D", node.data, "-c", "fast", "-N")
    with (node.data / "postgresql.conf").open("a") as file:
        file.write(f"unix_socket_directories = '{node.folder}'\nsynchronous_standby_names = ''\n")


def test_a_server_restored_from_an_old_backup_is_refused_and_reconciled(
    shared: Cluster, outer: Make, table: str, tmp_path: Path
) -> None:
    half = outer()
    half.ready()
    half.send(100)
    old = Node(tmp_path_of(shared) / f"restored_{table}")
    backup(shared, old)
    half.ready(2_000)
    half.send(2_000)
    half.keeper.close()
    old.start()
    try:
        with pytest.raises(RolledBackError, match="acknowledged"):
            SharedPostgresStore(
                (old.url,), "outer-1", table, replicated=False, extends=half.copy.tip
            )
        log = PostgresStore((old.url,), table)
        (branch,) = lost_branches(log, (half.copy,))
        ledger = Ledger(log, WIDE, SystemClock())
        assert charge_branch(ledger, log, branch)
        assert not charge_branch(ledger, log, branch)
        balance = ledger.balance(TOTAL)
        assert balance.spent + balance.reserved >= half.sent
        assert not extends(log, half.copy.tip())
    finally:
        old.stop()
        shutil.rmtree(old.folder)


def test_another_cluster_is_not_taken_for_this_one(shared: Cluster, table: str) -> None:
    store = PostgresStore(shared.urls, table)
    server = store.primary.server
    assert server is not None
    store.primary.hang_up()
    store.primary.server = type(server)(server.system + 1, server.timeline)
    with pytest.raises(SplitBrainError, match="another cluster"):
        store.tip()


def test_the_log_is_read_the_same_by_a_writer_that_lost_its_connection(
    shared: Cluster, table: str
) -> None:
    store = PostgresStore(shared.urls, table)
    ledger = Ledger(store, WIDE, SystemClock())
    shared.primary.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ''"
        " AND pid <> pg_backend_pid()"
    )
    with pytest.raises(LedgerError):
        ledger.record(Open(WIDE))
    ledger.record(Open(WIDE))
    assert catch_up(store, State(WIDE)).tip == store.tip() != EMPTY
