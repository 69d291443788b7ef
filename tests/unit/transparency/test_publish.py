from __future__ import annotations

from dataclasses import replace

import pytest
from log_world import SIGNER, LogWorld, cosigner, witness_service

from tidegate.clock import ManualClock
from tidegate.transparency.log import Log
from tidegate.transparency.publish import Published, Said, over_http, publish
from tidegate.transparency.store_memory import MemoryStore
from tidegate.transparency.witness import Reply


def said(published: Published) -> dict[str, Said]:
    return {answer.witness: answer.said for answer in published.answers}


def copy_of(store: MemoryStore) -> MemoryStore:
    copied = MemoryStore()
    copied._rows, copied._ids = list(store._rows), dict(store._ids)
    copied._notes = dict(store._notes)
    return copied


def test_enough_witnesses_make_a_quorum_and_the_rest_may_follow() -> None:
    world = LogWorld(witnesses=3, needed=2)
    world.grow(5)
    world.wires[1].cut = True
    first = world.publish()
    assert first.opened.quorum
    assert said(first) == {
        "w0": Said.COSIGNED,
        "w1": Said.UNREACHABLE,
        "w2": Said.COSIGNED,
    }
    world.wires[1].cut = False
    asked = world.wires[0].asked
    again = world.publish()
    assert len(again.opened.cosignatures) == 3
    assert world.wires[0].asked == asked
    assert world.log.kept() == again.opened.note


def test_too_few_witnesses_make_no_quorum() -> None:
    world = LogWorld(witnesses=3, needed=2)
    world.grow(1)
    for wire in world.wires[1:]:
        wire.cut = True
    assert not world.publish().opened.quorum


def test_a_witness_that_missed_some_sizes_catches_up() -> None:
    world = LogWorld(witnesses=2, needed=1)
    for n in range(4):
        world.grow(3)
        world.wires[1].cut = n % 2 == 1
        world.publish()
    world.grow(1)
    world.wires[1].cut = False
    assert set(said(world.publish()).values()) == {Said.COSIGNED}


def test_a_second_history_is_refused_and_both_notes_are_the_evidence() -> None:
    world = LogWorld(witnesses=1, needed=1)
    world.grow(6)
    world.publish()
    fork = world.fork(at=2)
    world.grow(5, fork)
    answer = world.publish(fork).answers[0]
    assert answer.said is Said.SPLIT_VIEW
    sizes = sorted(world.policy.open(note).checkpoint.size for note in answer.evidence)
    assert sizes == [6, 7]
    shorter = world.fork(at=2)
    world.grow(4, shorter)
    assert world.publish(shorter).answers[0].said is Said.SPLIT_VIEW


def test_a_log_restored_from_an_old_copy_is_told_so() -> None:
    world = LogWorld(witnesses=1, needed=1)
    world.grow(3)
    world.publish()
    old = copy_of(world.store)
    world.grow(3)
    world.publish()
    restored = Log(old, ManualClock(7))
    world.grow(1, restored)
    published = world.publish(restored)
    assert published.answers[0].said is Said.LOG_ROLLED_BACK
    assert published.alarms == published.answers
    assert not published.opened.quorum


def test_a_witness_that_forgot_is_told_from_one_that_is_behind() -> None:
    world = LogWorld(witnesses=2, needed=1)
    world.grow(3)
    world.publish()
    world.wires[1].service = witness_service(1)
    world.grow(1)
    assert said(world.publish()) == {"w0": Said.COSIGNED, "w1": Said.WITNESS_ROLLED_BACK}


@pytest.mark.parametrize(
    "bent",
    [
        Reply(200, ""),
        Reply(200, "no signature line\n"),
        Reply(200, cosigner(7).cosign("log\n1\n" + "A" * 43 + "=\n", 5)),
        Reply(200, cosigner(0).cosign("log\n1\n" + "A" * 43 + "=\n", 5)),
        Reply(409, "many\n"),
        Reply(409, "2\n"),
        Reply(422, "no\n"),
        Reply(500, "broken\n"),
        Reply(404, "who?\n"),
    ],
)
def test_an_answer_without_a_right_cosignature_is_none(bent: Reply) -> None:
    world = LogWorld(witnesses=2, needed=1)
    world.grow(4)
    world.wires[0].bend = lambda _: bent
    published = world.publish()
    assert said(published) == {"w0": Said.REFUSED, "w1": Said.COSIGNED}
    assert world.policy.open(published.opened.note).quorum


def test_a_witness_without_an_address_is_not_asked() -> None:
    world = LogWorld(witnesses=1, needed=1)
    world.grow(1)
    answers = publish(world.log, SIGNER, world.policy, over_http).answers
    assert [answer.said for answer in answers] == [Said.NO_ADDRESS]
    dead = replace(world.policy.witnesses[0], url="http://127.0.0.1:1/")
    policy = replace(world.policy, witnesses=(dead,))
    answers = publish(world.log, SIGNER, policy, over_http).answers
    assert [answer.said for answer in answers] == [Said.UNREACHABLE]
