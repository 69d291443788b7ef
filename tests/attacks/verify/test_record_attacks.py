"""Somebody owns the disk, the outer half's past, or the signing key; none of it becomes a pass."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from record_world import (
    KEY,
    ORIGIN,
    SEEDS,
    RecordWorld,
    beginning,
    kinds,
    lines_of,
    notes_of,
    with_lines,
)

from tidegate.record.private import Private
from tidegate.transparency.note import Checkpoint, Signer
from tidegate.transparency.runs import consistency_runs
from tidegate.verify.checkpoint import Kept, advance, compare, open_note
from tidegate.verify.checkpoint_proofs import leaves_of, roots
from tidegate.verify.record_findings import Finding, Kind
from tidegate.verify.record_fold import MAX_LIVE
from tidegate.verify.record_lines import note_line
from tidegate.verify.record_seal import Opener, SealTo, open_private
from tidegate.verify.record_store_memory import MemoryStore

OPENER = Opener(X25519PrivateKey.from_private_bytes(bytes(range(32))))
SEAL = SealTo(OPENER.public_key)
STRANGER = Signer(ORIGIN, Ed25519PrivateKey.generate())


def record(*answers: list[int]) -> MemoryStore:
    world = RecordWorld()
    world.open()
    for n, tokens in enumerate(answers):
        world.answer(f"r{n}", tokens)
    assert isinstance(world.store, MemoryStore)
    return world.store


def copy_of(store: MemoryStore) -> MemoryStore:
    copied = MemoryStore()
    copied.data = {segment: bytearray(data) for segment, data in store.data.items()}
    return copied


def kept(store: MemoryStore, place: int = -1) -> Kept:
    found = open_note(notes_of(store)[place], KEY)
    assert isinstance(found, Kept)
    return found


def test_a_checkpoint_of_another_key_is_forged() -> None:
    store = record([1, 2])
    size, root = KEY.open(notes_of(store)[-1]).size, bytes(32)
    for signer in (STRANGER, Signer("example.com/other", Ed25519PrivateKey.generate())):
        note = signer.sign(Checkpoint(signer.name, size, root))
        assert kinds(with_lines([*lines_of(store), note_line(note)])) == {Kind.FORGED_CHECKPOINT}
        found = open_note(note, KEY)
        assert isinstance(found, Finding)
        assert found.kind is Kind.FORGED_CHECKPOINT


def test_a_record_rewritten_and_signed_by_another_key_does_not_pass() -> None:
    world = RecordWorld(signer=STRANGER)
    world.answer("r0", [1, 2])
    assert Kind.FORGED_CHECKPOINT in kinds(world.store)


def test_an_old_copy_put_back_is_a_rollback() -> None:
    store = record([1, 2])
    old = copy_of(store)
    world = RecordWorld(store=store)
    world.answer("later", [3, 4])
    assert kinds(old) == set(), "from the inside it cannot be seen"
    assert kinds(old, [kept(store).checkpoint]) == {Kind.ROLLBACK}


def test_a_rolled_back_record_that_goes_on_is_a_split_view() -> None:
    """A restart on an old copy signs on; whoever kept the newer checkpoint finds out."""
    store = record([1, 2])
    old = copy_of(store)
    RecordWorld(store=store).answer("hidden", [3, 4])
    fork = RecordWorld(store=old)
    for n in range(3):
        fork.answer(f"other{n}", [5, 6])
    assert kinds(old) == set()
    assert Kind.SPLIT_VIEW in kinds(old, [kept(store).checkpoint])


def test_history_rewritten_with_the_signing_key_is_a_split_view() -> None:
    honest, rewritten = record([1, 2], [3, 4]), record([1, 9], [3, 4])
    assert kinds(rewritten) == set()
    assert kinds(rewritten, [kept(honest, -2).checkpoint]) == {Kind.SPLIT_VIEW}


def test_a_witness_takes_only_what_extends_what_he_has() -> None:
    store = record([1, 2], [3, 4], [5, 6])
    old, new = kept(store, -2), kept(store, -1)
    proof = roots(leaves_of(store), consistency_runs(old.checkpoint.size, new.checkpoint.size))
    assert advance(old, new.note, proof, KEY) == new
    assert advance(new, new.note, (), KEY) == new
    for shown, given, kind in (
        (old.note, (), Kind.ROLLBACK),
        (STRANGER.sign(new.checkpoint), proof, Kind.FORGED_CHECKPOINT),
    ):
        found = advance(new, shown, given, KEY)
        assert isinstance(found, Finding)
        assert found.kind is kind
    for wrong in ((), proof[:-1], (bytes(32), *proof[1:]), (*proof, bytes(32))):
        found = advance(old, new.note, wrong, KEY)
        assert isinstance(found, Finding), "no proof is no pass"
        assert found.kind is Kind.SPLIT_VIEW


def test_two_checkpoints_of_one_size_convict_whoever_signed_them() -> None:
    here, there = record([1, 2]), record([1, 3])
    one, other = kept(here), kept(there)
    assert one.checkpoint.size == other.checkpoint.size
    found = compare(one, other)
    assert found is not None
    assert found.kind is Kind.SPLIT_VIEW
    assert compare(one, one) is None
    longer = record([1, 2], [3])
    after = kept(longer)
    sizes = one.checkpoint.size, after.checkpoint.size
    assert compare(after, one, roots(leaves_of(longer), consistency_runs(*sizes))) is None
    withheld = compare(one, after)
    assert withheld is not None
    assert withheld.kind is Kind.SPLIT_VIEW


def test_checkpoints_of_two_records_are_not_compared() -> None:
    other = Signer("example.com/other", Ed25519PrivateKey.generate())
    checkpoint = Checkpoint(other.name, 1, bytes(32))
    found = compare(kept(record([1])), Kept(checkpoint, other.sign(checkpoint)))
    assert found is not None
    assert found.kind is Kind.FORGED_CHECKPOINT


def test_a_later_checkpoint_moved_forward_is_not_taken() -> None:
    """A checkpoint says how far it goes; standing elsewhere it lies about what it covers."""
    lines = lines_of(record([1, 2], [3, 4]))
    notes = [place for place, line in enumerate(lines) if line.startswith(b"C")]
    moved = [*lines[: notes[-1]], lines[notes[-2]], *lines[notes[-1] :]]
    assert kinds(with_lines(moved)) == {Kind.ALTERED}


def test_what_is_sealed_opens_for_its_verifier_only() -> None:
    begin = beginning("r1", seal=SEAL)
    assert b"stop\n" not in begin.private
    opened = open_private(begin, 1, OPENER, SEEDS)
    assert isinstance(opened, Private)
    assert (opened.prompt, opened.stop) == ((1, 2, 3), ("stop\n",))
    for opener in (None, Opener(X25519PrivateKey.generate())):
        found = open_private(begin, 1, opener, SEEDS)
        assert isinstance(found, Finding)
        assert found.kind is Kind.UNREADABLE


@pytest.mark.parametrize("change", [{"request": "r2"}, {"choice": 1}, {"attempt": 1}])
def test_what_is_sealed_cannot_be_moved_to_another_answer(change: dict[str, object]) -> None:
    moved = msgspec.structs.replace(beginning("r1", seal=SEAL), **change)
    found = open_private(moved, 1, OPENER)
    assert isinstance(found, Finding)
    assert found.kind is Kind.UNREADABLE


@pytest.mark.parametrize("sealed", [True, False])
def test_a_seed_other_than_the_one_committed_to_is_a_contradiction(sealed: bool) -> None:
    world_seal = SEAL if sealed else None
    begin = beginning("r1", seal=world_seal)
    other = beginning("r2", seal=world_seal)
    swapped = msgspec.structs.replace(begin, private=other.private)
    found = open_private(swapped, 1, OPENER)
    assert isinstance(found, Finding)
    # Sealed bytes do not even open under another commitment.
    assert found.kind is (Kind.UNREADABLE if sealed else Kind.CONTRADICTORY_SEEDS)


@pytest.mark.parametrize(
    "change",
    [{"attempt": 1}, {"choice": 1}, {"request": "r9"}, {"params": "00" * 56 + "00" * 8}],
)
def test_a_seed_that_nobody_derived_was_chosen_by_somebody(change: dict[str, object]) -> None:
    """An owner of the outer half's code might try seeds; he cannot make the derivation agree."""
    begin = msgspec.structs.replace(beginning("r1"), **change)
    found = open_private(begin, 1, None, SEEDS)
    assert isinstance(found, Finding)
    assert found.kind in {Kind.CONTRADICTORY_SEEDS, Kind.UNREADABLE}
    if "params" not in change:
        assert isinstance(open_private(begin, 1, None), Private), "only the seed key tells"


def test_a_prompt_of_another_length_is_found() -> None:
    begin = msgspec.structs.replace(beginning("r1"), prompt_tokens=4)
    found = open_private(begin, 1, None)
    assert isinstance(found, Finding)
    assert found.kind is Kind.CORRUPT


def test_a_hostile_record_of_answers_that_never_end_stays_small() -> None:
    world = RecordWorld()
    writer = world.open()
    done = writer.append(beginning(f"r{n}") for n in range(MAX_LIVE + 1))
    assert not isinstance(done[-1], int)
    assert isinstance(done[-2], int)
    assert done[-1].details["kind"] == Kind.OVERSIZED


def test_bytes_that_are_no_record_end_in_findings() -> None:
    for junk in (b"\n", b"E \n", b"x" * 5_000 + b"\n", b"\x00" * 64, b"C !!!\n", b"M {}\n"):
        store = with_lines([*lines_of(record([1, 2])), junk])
        assert kinds(store) & {Kind.CORRUPT, Kind.TRUNCATED}, junk
