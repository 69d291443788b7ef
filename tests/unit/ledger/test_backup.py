"""A copy keeps what was acknowledged; a log that lacks any of it is refused, or charged anew."""

from __future__ import annotations

import pytest

from tidegate.clock import ManualClock
from tidegate.errors import LedgerError
from tidegate.ledger import (
    TOTAL,
    Budget,
    Budgets,
    Fault,
    Ledger,
    MemoryStore,
    Sound,
    principal_scope,
    verify,
)
from tidegate.ledger.backup import CopyingStore, Evidence, extends, follow, restore
from tidegate.ledger.backup_drill import drill
from tidegate.ledger.backup_reconcile import charge_branch, lost_branches
from tidegate.ledger.entries import Charge, Commit, Extend, Open, Release, Reserve
from tidegate.ledger.errors import RolledBackError
from tidegate.ledger.lease_memory import MemoryCluster, SharedMemoryStore
from tidegate.ledger.state import EMPTY, Row
from tidegate.ledger.store import Store
from tidegate.ledger.verify import rows_between
from tidegate.transparency.note import Checkpoint

NEAR, FAR = "inner→middle", "middle→outside"
BUDGETS = Budgets(
    name="t",
    total=Budget(),
    edges=((NEAR, Budget()), (FAR, Budget())),
    principal=Budget(lifetime=1_000),
)


def ledger_over(store: Store) -> Ledger:
    return Ledger(store, BUDGETS, ManualClock())


def prefix(log: Store, size: int) -> MemoryStore:
    """What a backup from long ago has."""
    old = MemoryStore()
    old.append(EMPTY, tuple(rows_between(log, 0, size)))
    return old


def used() -> MemoryStore:
    store = MemoryStore()
    ledger = ledger_over(store)
    for _ in range(3):
        ledger.commit(ledger.reserve("alice", NEAR, 10), 7)
    ledger.reserve("bob", FAR, 20)
    return store


def spent(store: Store, principal: str) -> int:
    verdict = verify(store, BUDGETS)
    assert isinstance(verdict, Sound)
    account = verdict.state.account(principal_scope(principal))
    return account.spent + account.reserved


def checkpoint(store: Store) -> Checkpoint:
    verdict = verify(store, BUDGETS)
    assert isinstance(verdict, Sound)
    return Checkpoint("example.com/ledger", verdict.state.tip.size, verdict.state.root)


def test_a_copy_takes_what_came_since_and_no_more() -> None:
    log, copy = used(), MemoryStore()
    assert follow(log, copy) == log.tip().size
    ledger_over(log).charge("alice", NEAR, 3, "closed")
    assert follow(log, copy) == 2
    assert follow(log, copy) == 0
    assert copy.tip() == log.tip()


def test_a_log_whose_chain_is_broken_is_not_copied() -> None:
    log = used()
    good = log.read(0, 100)
    bad = MemoryStore()
    bad.append(EMPTY, (*good[:3], Row(good[3].entry.replace(b"7", b"1"), good[3].head), *good[4:]))
    with pytest.raises(LedgerError, match="Entry 3"):
        follow(bad, MemoryStore())


def test_a_restored_log_is_the_same_and_what_was_held_stays_held() -> None:
    backup, log = used(), MemoryStore()
    state = restore(backup, log, Evidence(copies=(prefix(backup, 4),)))
    assert log.tip() == backup.tip() == state.tip
    assert restore(backup, log, Evidence(copies=(backup,))).tip == state.tip  # done already
    assert [held.bits for held in ledger_over(log).held()] == [20]


def test_an_interrupted_restore_goes_on() -> None:
    backup = used()
    log = prefix(backup, 2)
    restore(backup, log, Evidence(copies=(backup,)))
    assert log.tip() == backup.tip()


def test_an_old_backup_is_refused_by_a_copy_and_by_a_checkpoint() -> None:
    log, target = used(), MemoryStore()
    old = prefix(log, log.tip().size - 1)
    for evidence in (Evidence(copies=(log,)), Evidence(checkpoints=(checkpoint(log),))):
        with pytest.raises(RolledBackError, match="forgotten"):
            restore(old, target, evidence)
    assert target.tip() == EMPTY


def test_a_backup_of_another_history_is_refused_by_a_checkpoint() -> None:
    other = MemoryStore()
    ledger = ledger_over(other)
    for _ in range(20):
        ledger.charge("mallory", NEAR, 1, "closed")
    with pytest.raises(RolledBackError):
        restore(other, MemoryStore(), Evidence(checkpoints=(checkpoint(used()),)))


def test_a_restore_without_evidence_or_over_another_log_is_refused() -> None:
    backup = used()
    with pytest.raises(LedgerError, match="Nothing shows"):
        restore(backup, MemoryStore(), Evidence())
    other = MemoryStore()
    ledger_over(other).charge("alice", NEAR, 1, "closed")
    with pytest.raises(LedgerError, match="another log"):
        restore(backup, other, Evidence(copies=(backup,)))


def test_a_drill_passes_on_a_sound_log_and_needs_one() -> None:
    log = used()
    came = drill(log, MemoryStore(), MemoryStore())
    assert came.passed
    assert came.entries == log.tip().size
    with pytest.raises(LedgerError, match="empty"):
        drill(MemoryStore(), MemoryStore(), MemoryStore())


class Forgetful(MemoryStore):
    """Loses the end of what is restored into it."""

    def append(self, expected: object, rows: object) -> None:
        if not self.tip().size:
            super().append(EMPTY, tuple(rows)[:-1])


def test_a_drill_tells_a_restore_that_lost_an_entry() -> None:
    assert not drill(used(), MemoryStore(), Forgetful()).passed


def test_what_a_lost_branch_let_out_is_charged_anew_once() -> None:
    log = MemoryStore()
    ledger = ledger_over(log)
    older = ledger.reserve("alice", NEAR, 50)
    fork = log.tip().size
    copy = prefix(log, fork)
    lost = ledger_over(copy)
    kept = copy.tip().size
    lost.record(
        Extend(older.id, 30),
        Commit(older.id, 60),
        Charge("bob", FAR, 5, "closed"),
        Reserve("bob", FAR, 40),
        Reserve("carol", NEAR, 9),
        Reserve("alice", FAR, 8),
    )
    lost.record(Commit(kept + 3, 25), Release(kept + 4))
    ledger.commit(older, 10)
    (branch,) = lost_branches(log, (copy, prefix(copy, fork + 4)))
    assert branch.fork == fork
    assert {(who, edge): bits for who, edge, bits in branch.bits if bits} == {
        ("alice", NEAR): 30,
        ("alice", FAR): 8,
        ("bob", FAR): 5 + 25,
    }
    before = {name: spent(log, name) for name in ("alice", "bob", "carol")}
    assert charge_branch(ledger, log, branch)
    assert not charge_branch(ledger, log, branch)
    after = {name: spent(log, name) for name in before}
    assert {name: after[name] - before[name] for name in before} == {
        "alice": 38,
        "bob": 30,
        "carol": 0,
    }
    assert lost_branches(log, (prefix(log, fork),)) == ()


def test_what_a_holder_was_told_is_written_is_in_its_copy() -> None:
    cluster, copy = MemoryCluster(), MemoryStore()
    other = SharedMemoryStore(cluster, "b")
    other.join()
    ledger_over(other).charge("bob", NEAR, 3, "closed")
    store = CopyingStore(SharedMemoryStore(cluster, "a"), copy)
    store.join()
    ledger = ledger_over(store)
    ledger.reserve("alice", NEAR, 10)
    ledger_over(other).charge("bob", NEAR, 4, "closed")
    assert extends(cluster.rows, copy.tip())
    ledger.reserve("alice", NEAR, 10)
    assert copy.tip() == cluster.rows.tip()
    assert ledger.balance(TOTAL).spent == 7


def test_a_write_that_cannot_be_copied_is_in_doubt() -> None:
    cluster = MemoryCluster()
    broken = MemoryStore(lambda n: Fault.NOT_PERSISTED if n == 1 else None)
    store = CopyingStore(SharedMemoryStore(cluster, "a"), broken)
    store.join()
    ledger = ledger_over(store)
    with pytest.raises(LedgerError):
        ledger.reserve("alice", NEAR, 10)
    assert ledger.balance(TOTAL).reserved == 10
    ledger.record(Open(BUDGETS))
    assert broken.tip() == cluster.rows.tip()


def test_what_was_read_and_is_gone_does_not_get_into_the_copy() -> None:
    """A primary that crashed showed entries that no standby had; the log goes on without them."""
    cluster, copy = MemoryCluster(), MemoryStore()
    store = CopyingStore(SharedMemoryStore(cluster, "a"), copy)
    store.join()
    ledger_over(store)
    survives = copy.tip()
    ghost = prefix(cluster.rows, survives.size)
    ledger_over(ghost).charge("ghost", NEAR, 1, "closed")
    cluster.rows = ghost
    assert len(store.read(survives.size, 10)) == 2
    cluster.rows = prefix(ghost, survives.size)
    ledger_over(cluster.rows).charge("bob", NEAR, 2, "closed")
    ledger_over(store)
    assert copy.tip() == cluster.rows.tip()
    assert spent(copy, "ghost") == 0
    assert spent(copy, "bob") == 2
