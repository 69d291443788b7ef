"""Proofs made in one pass are those of the tree, and a witness is shown one history only."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_world import KEY, ORIGIN, SIGNER, RecordWorld, notes_of

from tidegate.errors import RecordError
from tidegate.transparency import tree
from tidegate.transparency.note import Checkpoint
from tidegate.transparency.runs import consistency_runs, inclusion_runs
from tidegate.verify.checkpoint import Kept, KeptFile, advance, open_note
from tidegate.verify.checkpoint_proofs import leaves_of, root_at, roots
from tidegate.verify.record_store_memory import MemoryStore


def leaves(size: int) -> list[bytes]:
    return [tree.leaf_hash(bytes([n])) for n in range(size)]


@given(st.integers(1, 70), st.data())
def test_an_inclusion_proof_in_one_pass_is_the_trees(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = roots(iter(leaves(size)), inclusion_runs(index, size))
    assert proof == tree.inclusion_proof(leaves(size), index)
    root = tree.root_of(leaves(size))
    assert tree.included(leaves(size)[index], index, size, proof, root)


@given(st.integers(0, 70), st.data())
def test_a_consistency_proof_in_one_pass_is_the_trees(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(0, size))
    assert roots(iter(leaves(size)), consistency_runs(old, size)) == tree.consistency_proof(
        leaves(size), old
    )
    assert root_at(iter(leaves(size)), old) == tree.root_of(leaves(size)[:old])


def test_what_is_not_in_the_tree_has_no_proof() -> None:
    with pytest.raises(IndexError):
        inclusion_runs(3, 3)
    with pytest.raises(IndexError):
        consistency_runs(4, 3)
    with pytest.raises(RecordError):
        roots(leaves(3), consistency_runs(2, 5))


def test_a_record_proves_that_it_only_grew() -> None:
    world = RecordWorld(segment_bytes=900)
    world.open()
    kept: Kept | None = None
    for request in ("r1", "r2", "r3"):
        world.answer(request, range(1, 8))
        note = notes_of(_memory(world))[-1]
        size = KEY.open(note).size
        before = kept.checkpoint.size if kept else 0
        proof = roots(leaves_of(world.store), consistency_runs(before, size))
        shown = advance(kept, note, proof, KEY)
        assert isinstance(shown, Kept)
        kept = shown
    assert kept is not None
    assert kept.checkpoint.size == world.open().size - 1


def test_a_kept_note_survives_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    file = KeptFile(tmp_path / "kept")
    assert file.read(KEY) is None
    kept = open_note(SIGNER.sign(Checkpoint(ORIGIN, 1, hashlib.sha256(b"x").digest())), KEY)
    assert isinstance(kept, Kept)
    file.write(kept)
    assert KeptFile(tmp_path / "kept").read(KEY) == kept
    (tmp_path / "kept").write_text(kept.note.replace("\n1\n", "\n2\n"))
    with pytest.raises(RecordError):
        file.read(KEY)


def _memory(world: RecordWorld) -> MemoryStore:
    assert isinstance(world.store, MemoryStore)
    return world.store
