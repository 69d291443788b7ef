"""Each write is broken twice, and afterwards the log holds every event once and one history."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.transparency.entry import Kind
from tidegate.transparency.errors import LogError
from tidegate.transparency.log import Log
from tidegate.transparency.note import Checkpoint, Signer
from tidegate.transparency.store_memory import Fault, MemoryStore
from tidegate.transparency.tree import consistent, leaf_hash, root_of

SIGNER = Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(b"l" * 32))
EVENTS = 4
WRITES = 2 * EVENTS


def run(store: MemoryStore, handed_out: list[str]) -> bool:
    """Log four events and hand out a checkpoint after each: eight writes. True at the end."""
    try:
        log = Log(store, ManualClock())
        for n in range(EVENTS):
            log.append(Kind.RELEASE, {"n": n}, once=f"release/{n}")
            handed_out.append(log.sign(SIGNER))
    except LogError:
        return False
    return True


def test_the_script_makes_as_many_writes_as_are_broken() -> None:
    writes: list[int] = []
    assert run(MemoryStore(lambda n: writes.append(n)), [])
    assert len(writes) == WRITES


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("broken", range(WRITES))
def test_a_restart_logs_every_event_once_and_signs_one_history(broken: int, fault: Fault) -> None:
    notes: list[str] = []
    store = MemoryStore(lambda n: fault if n == broken else None)
    assert not run(store, notes)
    assert run(store, notes)
    log = Log(store, ManualClock())
    assert [logged.entry.body["n"] for logged in log.entries()] == list(range(EVENTS))
    assert log.root(EVENTS) == root_of([leaf_hash(logged.raw) for logged in log.entries()])
    points: list[Checkpoint] = [SIGNER.verifier.open(note) for note in notes]
    for point in points:
        proof = log.consistency(point.size, EVENTS)
        assert consistent(point.size, point.root, EVENTS, log.root(EVENTS), proof)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("broken", range(WRITES))
def test_a_running_log_goes_on_from_what_the_store_holds(broken: int, fault: Fault) -> None:
    """The same object, not a restart: after a failure it reads on before it writes again."""
    log = Log(MemoryStore(lambda n: fault if n == broken else None), ManualClock())
    failed = 0
    for n in range(EVENTS):
        for _ in range(2):
            try:
                log.append(Kind.RELEASE, {"n": n}, once=f"release/{n}")
                log.sign(SIGNER)
            except LogError:
                failed += 1
            else:
                break
    assert failed == 1
    assert [logged.entry.body["n"] for logged in log.entries()] == list(range(EVENTS))
    assert SIGNER.verifier.open(log.sign(SIGNER)).size == EVENTS


@pytest.mark.parametrize("fault", Fault)
def test_a_checkpoint_whose_keeping_failed_is_not_handed_out(fault: Fault) -> None:
    notes: list[str] = []
    store = MemoryStore(lambda n: fault if n == 1 else None)
    assert not run(store, notes)
    assert notes == []
