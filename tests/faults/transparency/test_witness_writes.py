"""A witness broken at every write, both ways: it never cosigns two histories, and goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from log_world import ORIGIN, SIGNER, LogWorld, cosigner, witness_service

from tidegate.transparency.errors import WitnessError
from tidegate.transparency.log import Log
from tidegate.transparency.note import Checkpoint
from tidegate.transparency.store_memory import Fault
from tidegate.transparency.tree import consistent
from tidegate.transparency.witness import AddCheckpoint, Reply
from tidegate.transparency.witness_anchor import MemoryAnchor
from tidegate.transparency.witness_service import WitnessService
from tidegate.transparency.witness_store_memory import MemoryWitnessStore

SIZES = (2, 3, 5, 9)


def ask(witness: WitnessService, log: Log, old: int, size: int) -> Reply:
    note = SIGNER.sign(Checkpoint(ORIGIN, size, log.root(size)))
    return witness.add_checkpoint(AddCheckpoint(old, log.consistency(old, size), note).encode())


def offered(
    witness: WitnessService, restart: Callable[[], WitnessService], log: Log, cosigned: list[str]
) -> WitnessService:
    """Offer the log at growing sizes, as its owner does; after an error start the witness again."""
    for size in SIZES:
        old = 0
        for _ in range(4):
            try:
                reply = ask(witness, log, old, size)
            except WitnessError:
                witness = restart()
                continue
            if reply.status == 409:
                old = int(reply.body)
                if old > size:
                    break
                continue
            if reply.status == 200:
                note = SIGNER.sign(Checkpoint(ORIGIN, size, log.root(size)))
                assert cosigner(0).public.find(note + reply.body) is not None
                cosigned.append(note)
            break
    return witness


def points_of(notes: list[str]) -> list[Checkpoint]:
    return [SIGNER.verifier.open(note) for note in notes]


@pytest.mark.parametrize("part", ["memory", "anchor"])
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("broken", range(len(SIZES)))
def test_broken_at_any_write_it_cosigns_one_history(part: str, broken: int, fault: Fault) -> None:
    world = LogWorld()
    world.grow(9)
    fork = world.fork(at=2)
    world.grow(7, fork)

    def hook(n: int) -> Fault | None:
        return fault if n == broken else None

    store = MemoryWitnessStore(hook if part == "memory" else lambda _: None)
    anchor = MemoryAnchor(hook if part == "anchor" else lambda _: None)

    def restart() -> WitnessService:
        try:
            return witness_service(store=store, anchor=anchor)
        except WitnessError:
            # Broken while it caught up with its anchor; started once more, it goes on.
            return witness_service(store=store, anchor=anchor)

    notes: list[str] = []
    witness = offered(restart(), restart, world.log, notes)
    witness = offered(witness, restart, fork, notes)
    witness = offered(witness, restart, world.log, notes)
    points = points_of(notes)
    assert points[-1].size == 9
    for point in points:
        proof = world.log.consistency(point.size, 9)
        assert consistent(point.size, point.root, 9, world.log.root(9), proof)
    assert witness_service(store=store, anchor=anchor).add_checkpoint(b"").status == 400


@pytest.mark.parametrize("part", ["memory", "anchor"])
@pytest.mark.parametrize("fault", Fault)
def test_a_running_witness_goes_on_after_a_broken_write(part: str, fault: Fault) -> None:
    world = LogWorld()
    world.grow(9)

    def hook(n: int) -> Fault | None:
        return fault if n == 1 else None

    witness = witness_service(
        store=MemoryWitnessStore(hook if part == "memory" else lambda _: None),
        anchor=MemoryAnchor(hook if part == "anchor" else lambda _: None),
    )
    notes: list[str] = []
    offered(witness, lambda: witness, world.log, notes)
    assert [point.size for point in points_of(notes)] == list(SIZES)
