from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.transparency.entry import Kind
from tidegate.transparency.errors import EntryError, LogError
from tidegate.transparency.log import Log
from tidegate.transparency.note import Signer
from tidegate.transparency.store_memory import MemoryStore
from tidegate.transparency.tree import (
    consistency_proof,
    consistent,
    included,
    inclusion_proof,
    leaf_hash,
    root_of,
)

SIGNER = Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(b"l" * 32))


def log_of(size: int, store: MemoryStore | None = None) -> Log:
    log = Log(store or MemoryStore(), ManualClock())
    for n in range(size):
        log.append(Kind.GRANT, {"n": n})
    return log


def test_an_entry_is_there_with_its_time_and_place_once_append_returns() -> None:
    store, clock = MemoryStore(), ManualClock(12.5)
    log = Log(store, clock)
    log.append(Kind.GRANT, {"who": "ada"})
    clock.advance(1)
    position = log.append(Kind.RELEASE, {"grant": "g1"}, once="release/g1")
    found = Log(store, ManualClock()).entry(1)
    assert (position.index, position.leaf) == (1, leaf_hash(found.raw))
    assert (found.entry.kind, found.entry.time, found.entry.id) == (
        Kind.RELEASE,
        13_500,
        "release/g1",
    )
    assert log.find("release/g1") == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13, 33])
def test_proofs_from_stored_subtrees_are_those_of_the_whole_tree(size: int) -> None:
    log = log_of(size)
    leaves = [leaf_hash(logged.raw) for logged in log.entries()]
    root = root_of(leaves)
    assert log.root(size) == root
    for n in range(size):
        assert log.root(n) == root_of(leaves[:n])
        assert log.inclusion(n, size) == inclusion_proof(leaves, n)
        assert included(leaves[n], n, size, log.inclusion(n, size), root)
        assert log.consistency(n, size) == consistency_proof(leaves, n)
        assert consistent(n, root_of(leaves[:n]), size, root, log.consistency(n, size))


def test_proofs_about_what_is_not_there_are_refused() -> None:
    log = log_of(3)
    for wrong in (
        lambda: log.inclusion(3, 3),
        lambda: log.inclusion(0, 4),
        lambda: log.inclusion(-1, 3),
        lambda: log.consistency(4, 3),
        lambda: log.consistency(2, 4),
        lambda: log.root(4),
        lambda: list(log.entries(0, 4)),
    ):
        with pytest.raises(LogError):
            wrong()


def test_one_event_is_logged_once_however_often_it_is_told() -> None:
    log = log_of(2)
    first = log.append(Kind.GRANT, {"a": [1], "b": 2}, once="grant/1")
    assert log.append(Kind.GRANT, {"b": 2, "a": (1,)}, once="grant/1") == first
    assert log.size == 3
    with pytest.raises(EntryError, match="another entry"):
        log.append(Kind.GRANT, {"a": [2], "b": 2}, once="grant/1")
    with pytest.raises(EntryError, match="another entry"):
        log.append(Kind.RELEASE, {"a": [1], "b": 2}, once="grant/1")


def test_a_checkpoint_is_signed_once_a_size_and_keeps_its_cosignatures() -> None:
    store = MemoryStore()
    log = log_of(3, store)
    note = log.sign(SIGNER)
    log.keep(note + "— witness.example AAAAAAAA\n")
    assert log.sign(SIGNER) == note + "— witness.example AAAAAAAA\n"
    log.append(Kind.GRANT, {})
    later = log.sign(SIGNER)
    assert SIGNER.verifier.open(later).size == 4
    log.keep(note)
    assert log.kept() == later
    assert Log(store, ManualClock()).kept() == later


def test_a_log_that_is_not_the_signed_one_does_not_open() -> None:
    signed, other = MemoryStore(), MemoryStore()
    note = log_of(3, signed).sign(SIGNER)
    log_of(2, other)
    other.keep("checkpoint", None, note)
    with pytest.raises(LogError, match="rolled back"):
        Log(other, ManualClock())
    third = MemoryStore()
    Log(third, ManualClock(99)).append(Kind.GRANT, {"n": 7})
    log_of(4, third)
    third.keep("checkpoint", None, note)
    with pytest.raises(LogError, match="rewritten"):
        Log(third, ManualClock())


def test_a_foreign_checkpoint_is_not_kept() -> None:
    note = log_of(3).sign(SIGNER)
    with pytest.raises(LogError):
        log_of(2).keep(note)


def test_a_store_that_is_swapped_under_a_running_log_is_noticed() -> None:
    store = MemoryStore()
    log = log_of(5, store)
    for swapped in (log_of(3), Log(MemoryStore(), ManualClock(1))):
        while swapped.size < 3:
            swapped.append(Kind.GRANT, {})
        store._rows = swapped._store._rows  # type: ignore[attr-defined]
        with pytest.raises(LogError, match="rewritten or rolled back"):
            log.append(Kind.GRANT, {})
    grown = log_of(0)
    for n in range(9):
        grown.append(Kind.VERDICT, {"n": n})
    store._rows = grown._store._rows  # type: ignore[attr-defined]
    with pytest.raises(LogError, match="rewritten or rolled back"):
        log.append(Kind.GRANT, {})
