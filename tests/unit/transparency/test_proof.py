from __future__ import annotations

import pytest
from log_world import SIGNER, LogWorld

from tidegate.transparency.check import check_log
from tidegate.transparency.errors import CheckpointError, LogError
from tidegate.transparency.outcome import CannotVerify, Fail, Pass, Problem
from tidegate.transparency.policy import Policy
from tidegate.transparency.proof import HEADER, Proof, check, prove


@pytest.fixture
def world() -> LogWorld:
    made = LogWorld(witnesses=2, needed=1)
    made.grow(11)
    made.publish()
    return made


def test_every_entry_is_proved_offline_and_no_other_is(world: LogWorld) -> None:
    raws = [raw for _, raw in world.log.raw_entries(0, 11)]
    for index, raw in enumerate(raws):
        proof = Proof.parse(prove(world.log, index).encode())
        assert isinstance(check(proof, raw, world.policy), Pass)
        for other in raws:
            if other != raw:
                found = check(proof, other, world.policy)
                assert isinstance(found, Fail)
                assert found.problem is Problem.FORGED


def test_a_proof_without_enough_witnesses_is_no_pass(world: LogWorld) -> None:
    world.grow(1)
    world.log.sign(SIGNER)
    raw = world.log.entry(3).raw
    assert isinstance(check(prove(world.log, 3), raw, world.policy), CannotVerify)
    assert isinstance(check(prove(world.log, 3), raw, Policy(world.policy.logs)), Pass)


def test_an_entry_that_no_checkpoint_holds_cannot_be_proved(world: LogWorld) -> None:
    world.grow(1)
    with pytest.raises(LogError, match="publish"):
        prove(world.log, 11)


def test_extra_data_is_skipped(world: LogWorld) -> None:
    text = prove(world.log, 3).encode()
    extra = text.replace(HEADER + "\n", HEADER + "\nextra AAAA\n")
    assert Proof.parse(extra) == Proof.parse(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text.replace("@v1", "@v2"),
        lambda text: text.replace("index 3", "index 03"),
        lambda text: text.replace("index 3", "index -3"),
        lambda text: text.replace("index 3\n", ""),
        lambda text: text.replace("index 3\n", "index 3\n!\n"),
        lambda text: text.partition("\n\n")[0],
        lambda text: text.replace("index 3\n", "index 3\n" + "AAAA\n" * 64),
    ],
)
def test_a_malformed_proof_is_refused(world: LogWorld, change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CheckpointError):
        Proof.parse(change(prove(world.log, 3).encode()))


def test_a_whole_log_passes_with_what_it_does_not_show(world: LogWorld) -> None:
    before = world.log.kept()
    assert before is not None
    world.grow(4)
    world.publish()
    world.grow(2)
    outcome = check_log(world.log, world.policy, [before])
    assert isinstance(outcome, Pass)
    assert "15 entries" in outcome.claim
    assert outcome.witnesses == 2
    assert any("2 entries" in limit for limit in outcome.limits)


def test_a_log_that_was_changed_behind_its_back_is_found(world: LogWorld) -> None:
    row = world.store._rows[4]
    world.store._rows[4] = row._replace(entry=row.entry.replace(b'"n":4', b'"n":5'))
    found = check_log(world.log, world.policy)
    assert isinstance(found, Fail)
    assert found.problem is Problem.ALTERED
    world.store._rows[4] = row._replace(entry=b"not an entry")
    found = check_log(world.log, world.policy)
    assert isinstance(found, Fail)
    assert found.problem is Problem.MALFORMED


def test_a_log_rewritten_with_its_own_key_is_found_by_what_is_kept_elsewhere(
    world: LogWorld,
) -> None:
    elsewhere = world.log.kept()
    assert elsewhere is not None
    alone = Policy(world.policy.logs)
    fork = world.fork(at=4)
    world.grow(9, fork)
    fork.sign(SIGNER)
    unwitnessed = check_log(fork, alone)
    assert isinstance(unwitnessed, Pass)
    assert unwitnessed.witnesses == 0
    found = check_log(fork, alone, [elsewhere])
    assert isinstance(found, Fail)
    assert found.problem is Problem.SPLIT_VIEW
    shorter = world.fork(at=4)
    shorter.sign(SIGNER)
    found = check_log(shorter, alone, [elsewhere])
    assert isinstance(found, Fail)
    assert found.problem is Problem.ROLLBACK
    assert isinstance(check_log(fork, world.policy), CannotVerify)


def test_an_unsigned_log_cannot_be_verified() -> None:
    assert isinstance(check_log(LogWorld().log, Policy(())), CannotVerify)


def test_a_trusted_note_that_is_forged_is_not_compared(world: LogWorld) -> None:
    note = world.log.kept()
    assert note is not None
    found = check_log(world.log, world.policy, [note.replace("\n11\n", "\n12\n")])
    assert isinstance(found, Fail)
    assert found.problem is Problem.FORGED
