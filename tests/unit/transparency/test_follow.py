from __future__ import annotations

from pathlib import Path

import pytest
from log_world import ORIGIN, SIGNER, LogSource, LogWorld, cosigner

from tidegate.transparency.errors import LogError
from tidegate.transparency.follow import Grown, Known, KnownFile, Other, Step, step
from tidegate.transparency.note import Checkpoint, note_text
from tidegate.transparency.outcome import CannotVerify, Fail, Problem
from tidegate.transparency.policy import n_of
from tidegate.transparency.tree import leaf_hash, root_of


@pytest.fixture
def world() -> LogWorld:
    made = LogWorld(witnesses=1, needed=1)
    made.grow(5)
    made.publish()
    return made


def grown(outcome: Step) -> Grown:
    assert isinstance(outcome, Grown), outcome
    return outcome


def failed(outcome: Step) -> Fail:
    assert isinstance(outcome, Fail), outcome
    return outcome


def test_every_new_entry_is_seen_once_and_under_the_root(world: LogWorld) -> None:
    source = LogSource(world.log)
    first = grown(step(None, source, world.policy))
    assert [logged.index for logged in first.entries] == [0, 1, 2, 3, 4]
    nothing = grown(step(first.known, source, world.policy))
    assert nothing.entries == ()
    world.grow(300)
    world.publish()
    later = grown(step(nothing.known, source, world.policy))
    assert [logged.index for logged in later.entries] == list(range(5, 305))
    assert later.opened.checkpoint.root == world.log.root(305)


def test_a_checkpoint_that_too_few_cosigned_is_not_followed(world: LogWorld) -> None:
    known = grown(step(None, LogSource(world.log), world.policy)).known
    world.grow(1)
    world.log.sign(SIGNER)
    outcome = step(known, LogSource(world.log), world.policy)
    assert isinstance(outcome, CannotVerify)
    assert "Too few" in outcome.reason


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("size", [5, 6, 9])
def test_a_rewritten_history_is_a_split_view_with_both_notes(
    world: LogWorld, at: int, size: int
) -> None:
    known = grown(step(None, LogSource(world.log), world.policy)).known
    fork = world.fork(at)
    world.grow(size - at, fork)
    # The witness was won over: it cosigns whatever it is shown.
    note = SIGNER.sign(Checkpoint(ORIGIN, size, fork.root(size)))
    source = LogSource(fork)
    source.note = note + cosigner(0).cosign(note_text(note), 9)
    found = failed(step(known, source, world.policy))
    assert found.problem is Problem.SPLIT_VIEW
    opened = [world.policy.open(one).checkpoint for one in found.evidence]
    assert {point.root for point in opened} == {world.log.root(5), fork.root(size)}


def test_a_log_that_shows_less_than_it_did_is_rolled_back(world: LogWorld) -> None:
    source = LogSource(world.log)
    before = world.log.kept()
    world.grow(3)
    world.publish()
    known = grown(step(None, source, world.policy)).known
    source.note = before
    found = failed(step(known, source, world.policy))
    assert found.problem is Problem.ROLLBACK
    assert found.evidence == (known.note, before)


def test_what_a_witness_holds_convicts_a_log_that_shows_each_reader_another_tree(
    world: LogWorld,
) -> None:
    """A reader who saw nothing before, shown a fork, and the witness's checkpoint beside it."""
    fork = world.fork(at=3)
    world.grow(6, fork)
    fork.sign(SIGNER)
    kept = world.log.kept()
    assert kept is not None
    alone = n_of(world.policy.logs[0], world.policy.witnesses, 0)
    others = [Other("w0", kept)]
    assert isinstance(step(None, LogSource(fork), alone), Grown)
    found = failed(step(None, LogSource(fork), alone, others))
    assert found.problem is Problem.SPLIT_VIEW
    assert "w0" in found.reason


def test_a_larger_tree_in_a_witnesss_hands_shows_a_stale_view(world: LogWorld) -> None:
    source = LogSource(world.log)
    source.note = world.log.kept()
    world.grow(2)
    larger = world.publish().opened.note
    found = failed(step(None, source, world.policy, [Other("w0", larger)]))
    assert found.problem is Problem.ROLLBACK


def test_notes_that_the_log_did_not_sign_accuse_nobody(world: LogWorld) -> None:
    wrong = SIGNER.sign(Checkpoint(ORIGIN, 3, bytes(32))).replace("\n3\n", "\n4\n")
    others = [Other("w0", wrong), Other("w1", ""), Other("w2", "no note\n\n")]
    assert isinstance(step(None, LogSource(world.log), world.policy, others), Grown)


def test_entries_that_do_not_make_the_tree_are_not_taken(world: LogWorld) -> None:
    source = LogSource(world.log)
    for spoil in (
        lambda raw: raw[:-1] + b"x",
        lambda raw: raw[:-1],
        lambda raw: b"",
        lambda raw: raw + raw,
    ):
        source.spoil = spoil
        assert isinstance(step(None, source, world.policy), CannotVerify)


def test_a_forged_checkpoint_is_refused(world: LogWorld) -> None:
    source = LogSource(world.log)
    kept = world.log.kept()
    assert kept is not None
    for note in (kept.replace("\n5\n", "\n6\n"), "", "x\n\n", kept.replace(ORIGIN, "other")):
        source.note = note or "no note"
        assert failed(step(None, source, world.policy)).problem is Problem.FORGED


def test_a_log_that_signs_what_is_no_entry_is_found_out(world: LogWorld) -> None:
    world.store._rows[2] = world.store._rows[2]._replace(entry=b"{}")
    source = LogSource(world.log)
    leaves = [leaf_hash(row.entry) for row in world.store._rows]
    note = SIGNER.sign(Checkpoint(ORIGIN, 5, root_of(leaves)))
    source.note = note + cosigner(0).cosign(note_text(note), 9)
    assert failed(step(None, source, world.policy)).problem is Problem.MALFORMED


def test_what_is_kept_survives_and_an_altered_file_is_refused(
    world: LogWorld, tmp_path: Path
) -> None:
    path = tmp_path / "known.json"
    file = KnownFile(path)
    assert file.read(world.policy) is None
    known: Known = grown(step(None, LogSource(world.log), world.policy)).known
    file.write(known)
    assert KnownFile(path).read(world.policy) == known
    raw = path.read_bytes()
    for changed in (
        raw.replace(b'"size":5', b'"size":4'),
        raw.replace(known.frontier[0].hex().encode(), b"00" * 32),
        raw[:20],
        b"",
    ):
        path.write_bytes(changed)
        with pytest.raises(LogError):
            file.read(world.policy)


def test_a_place_that_cannot_be_written_is_an_error(world: LogWorld, tmp_path: Path) -> None:
    known = grown(step(None, LogSource(world.log), world.policy)).known
    with pytest.raises(LogError):
        KnownFile(tmp_path / "missing" / "known.json").write(known)
