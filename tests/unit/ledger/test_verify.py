from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.errors import LedgerError
from tidegate.ledger import (
    Broken,
    Budget,
    Budgets,
    CannotVerify,
    Ledger,
    MemoryStore,
    Sound,
    verify,
)
from tidegate.ledger.entries import GENESIS, next_head
from tidegate.ledger.state import Row, Tip
from tidegate.ledger.verify import leaf_hashes
from tidegate.transparency import tree
from tidegate.transparency.note import Signer

EDGE = "inner→outside"
BUDGETS = Budgets(
    name="test",
    total=Budget(lifetime=1_000),
    edges=((EDGE, Budget()),),
    principal=Budget(),
)
SIGNER = Signer("example.com/ledger", Ed25519PrivateKey.from_private_bytes(bytes(32)))


@pytest.fixture
def rows(store: MemoryStore, clock: ManualClock) -> Sequence[Row]:
    """open, reserve 100, commit 90, reserve 50, charge 64."""
    ledger = Ledger(store, BUDGETS, clock)
    ledger.commit(ledger.reserve("alice", EDGE, 100), 90)
    clock.advance(1)
    ledger.reserve("bob", EDGE, 50)
    ledger.charge("bob", EDGE, 64, "link closed")
    return store.read(0, 100)


def stored(rows: Sequence[Row]) -> MemoryStore:
    store = MemoryStore()
    store.append(Tip(0, GENESIS), rows)
    return store


def rechained(entries: Sequence[bytes]) -> MemoryStore:
    """What somebody who owns the store writes: altered entries under heads that fit."""
    head, rows = GENESIS, []
    for entry in entries:
        head = next_head(head, entry)
        rows.append(Row(entry, head))
    return stored(rows)


def with_entry(rows: Sequence[Row], n: int, change: Callable[[bytes], bytes]) -> list[bytes]:
    return [change(row.entry) if i == n else row.entry for i, row in enumerate(rows)]


def test_an_honest_log_is_sound(rows: Sequence[Row]) -> None:
    verdict = verify(stored(rows), BUDGETS)
    assert isinstance(verdict, Sound)
    assert verdict.first_over is None
    assert verdict.state.tip == Tip(5, rows[-1].head)
    assert verdict.state.root == tree.root_of([tree.leaf_hash(row.entry) for row in rows])


@pytest.mark.parametrize("n", range(5))
def test_an_altered_entry_is_named(rows: Sequence[Row], n: int) -> None:
    def later(entry: bytes) -> bytes:
        return entry.replace(b'"wall":17', b'"wall":18')

    entries = with_entry(rows, n, later)
    altered = [Row(entry, row.head) for entry, row in zip(entries, rows, strict=True)]
    verdict = verify(stored(altered), BUDGETS)
    assert isinstance(verdict, Broken)
    assert verdict.entry == n


def test_an_altered_head_is_named(rows: Sequence[Row]) -> None:
    altered = [*rows[:2], Row(rows[2].entry, bytes(32)), *rows[3:]]
    verdict = verify(stored(altered), BUDGETS)
    assert isinstance(verdict, Broken)
    assert verdict.entry == 2


def test_a_removed_entry_is_named(rows: Sequence[Row]) -> None:
    verdict = verify(stored([*rows[:2], *rows[3:]]), BUDGETS)
    assert isinstance(verdict, Broken)
    assert verdict.entry == 2


@pytest.mark.parametrize(
    ("n", "old", "new", "first_bad", "why"),
    [
        (2, b'"bits":90', b'"bits":101', 2, "holds 100"),
        (2, b'"reservation":1', b'"reservation":0', 2, "not open"),
        (3, b'"time":1000', b'"time":1001', 4, "back in time"),
        (3, b"}}", b"}} ", 3, "canonical"),
    ],
)
def test_a_rule_broken_under_fitting_heads_is_named(
    rows: Sequence[Row], n: int, old: bytes, new: bytes, first_bad: int, why: str
) -> None:
    entries = with_entry(rows, n, lambda entry: entry.replace(old, new))
    verdict = verify(rechained(entries), BUDGETS)
    assert isinstance(verdict, Broken)
    assert verdict.entry == first_bad
    assert why in verdict.reason


def test_a_log_rewritten_in_full_shows_only_against_a_kept_checkpoint(
    rows: Sequence[Row], store: MemoryStore, clock: ManualClock
) -> None:
    kept = SIGNER.verifier.open(Ledger(store, BUDGETS, clock).checkpoint(SIGNER))
    entries = [row.entry for row in store.read(0, 100)]
    entries[2] = entries[2].replace(b'"bits":90', b'"bits":10')
    forged = rechained(entries)
    assert isinstance(verify(forged, BUDGETS), Sound)
    verdict = verify(forged, BUDGETS, trusted=kept)
    assert isinstance(verdict, Broken)
    assert "differs from its checkpoint" in verdict.reason


def test_a_log_rolled_back_shows_against_a_kept_checkpoint(
    rows: Sequence[Row], store: MemoryStore, clock: ManualClock
) -> None:
    kept = SIGNER.verifier.open(Ledger(store, BUDGETS, clock).checkpoint(SIGNER))
    verdict = verify(stored(rows[:3]), BUDGETS, trusted=kept)
    assert isinstance(verdict, Broken)
    assert "ends before its checkpoint" in verdict.reason


def test_a_log_that_grew_agrees_with_an_old_checkpoint(
    rows: Sequence[Row], store: MemoryStore, clock: ManualClock
) -> None:
    ledger = Ledger(store, BUDGETS, clock)
    kept = SIGNER.verifier.open(ledger.checkpoint(SIGNER))
    ledger.reserve("carol", EDGE, 5)
    assert isinstance(ledger.verify(kept), Sound)
    now = SIGNER.verifier.open(ledger.checkpoint(SIGNER))
    proof = tree.consistency_proof(leaf_hashes(store, now.size), kept.size)
    assert tree.consistent(kept.size, kept.root, now.size, now.root, proof)
    with pytest.raises(LedgerError):
        leaf_hashes(store, now.size + 1)


def test_balances_in_memory_that_differ_from_the_log_are_found(rows: Sequence[Row]) -> None:
    sound = verify(stored(rows), BUDGETS)
    assert isinstance(sound, Sound)
    drifted = replace(sound.state, held={})
    assert verify(stored(rows), BUDGETS, live=sound.state) == sound
    verdict = verify(stored(rows), BUDGETS, live=drifted)
    assert isinstance(verdict, Broken)
    assert "balances" in verdict.reason


def test_an_entry_that_budgets_would_have_refused_is_named(rows: Sequence[Row]) -> None:
    tight = Budgets(name="t", total=Budget(lifetime=120), edges=BUDGETS.edges, principal=Budget())
    verdict = verify(stored(rows), tight)
    assert isinstance(verdict, Sound)
    assert verdict.first_over == 3


def test_a_running_ledger_does_not_follow_a_store_that_was_rolled_back(
    rows: Sequence[Row], clock: ManualClock
) -> None:
    class Rewindable(MemoryStore):
        keep: int | None = None

        def tip(self) -> Tip:
            if self.keep is None:
                return super().tip()
            return Tip(self.keep, self.read(self.keep - 1, 1)[0].head)

    store = Rewindable()
    store.append(Tip(0, GENESIS), rows)
    ledger = Ledger(store, BUDGETS, clock)
    store.keep = 3
    with pytest.raises(LedgerError, match="rolled back"):
        ledger.held()


def test_a_store_that_cannot_be_read_is_no_verdict(rows: Sequence[Row]) -> None:
    class Unreadable(MemoryStore):
        def read(self, start: int, limit: int) -> Sequence[Row]:
            raise LedgerError("The disk is gone.")

    store = Unreadable()
    store.append(Tip(0, GENESIS), rows)
    assert verify(store, BUDGETS) == CannotVerify("The disk is gone.")


def test_a_ledger_does_not_open_on_a_broken_log(rows: Sequence[Row], clock: ManualClock) -> None:
    broken = stored([*rows[:2], *rows[3:]])
    with pytest.raises(LedgerError):
        Ledger(broken, BUDGETS, clock)
