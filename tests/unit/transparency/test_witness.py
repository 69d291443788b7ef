"""The protocol, answer by answer (https://c2sp.org/tlog-witness)."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from log_world import ORIGIN, ORIGIN_HASH, SIGNER, LogWorld, cosigner, witness_service

from tidegate.clock import ManualClock
from tidegate.transparency.errors import CheckpointError, WitnessError
from tidegate.transparency.log import Log
from tidegate.transparency.note import Checkpoint, Signer
from tidegate.transparency.witness import AddCheckpoint, Reply
from tidegate.transparency.witness_anchor import MemoryAnchor
from tidegate.transparency.witness_store_memory import MemoryWitnessStore


def note_of(log: Log, size: int, signer: Signer = SIGNER) -> str:
    return signer.sign(Checkpoint(signer.name, size, log.root(size)))


def ask(log: Log, old: int, size: int) -> bytes:
    return AddCheckpoint(old, log.consistency(old, size), note_of(log, size)).encode()


@pytest.fixture
def log() -> Log:
    world = LogWorld()
    world.grow(9)
    return world.log


def test_a_tree_that_only_grows_is_cosigned_each_time(log: Log) -> None:
    clock = ManualClock()
    witness = witness_service(clock=clock)
    old = 0
    for size in (1, 4, 4, 9):
        clock.advance(1)
        reply = witness.add_checkpoint(ask(log, old, size))
        assert reply.status == 200
        found = cosigner(0).public.find(note_of(log, size) + reply.body)
        assert found is not None
        assert found.time == int(clock.now())
        old = size


def test_what_was_cosigned_last_is_shown_with_both_signatures(log: Log) -> None:
    witness = witness_service()
    assert witness.checkpoint(ORIGIN_HASH).status == 404
    stranger = Signer("stranger", Ed25519PrivateKey.generate())
    asked = AddCheckpoint(0, (), note_of(log, 4) + stranger.sign_text("x\n")[3:]).encode()
    witness.add_checkpoint(asked)
    shown = witness.checkpoint(ORIGIN_HASH).body
    assert SIGNER.verifier.open(shown).size == 4
    assert cosigner(0).public.find(shown) is not None
    assert "stranger" not in shown
    assert witness.checkpoint("00" * 32).status == 404


def test_a_size_it_does_not_hold_is_answered_with_the_one_it_holds(log: Log) -> None:
    witness = witness_service()
    witness.add_checkpoint(ask(log, 0, 4))
    for old, size in ((0, 9), (3, 9), (5, 9), (0, 3)):
        assert witness.add_checkpoint(ask(log, old, size)) == Reply(409, "4\n", "text/x.tlog.size")


def test_two_trees_of_one_size_are_never_cosigned(log: Log) -> None:
    store = MemoryWitnessStore()
    witness = witness_service(store=store)
    world = LogWorld()
    world.log = log
    fork = world.fork(at=2)
    world.grow(7, fork)
    assert witness.add_checkpoint(ask(log, 0, 4)).status == 200
    for old, size, status in ((4, 4, 422), (0, 4, 409), (4, 9, 422), (2, 9, 409), (0, 9, 409)):
        reply = witness.add_checkpoint(ask(fork, old, size))
        assert reply.status == status
        assert "—" not in reply.body
    assert witness.add_checkpoint(ask(log, 4, 9)).status == 200
    # Only notes of one size convict by themselves, however they were sent.
    assert store.accusations() == ((ORIGIN, store.accusations()[0][1], note_of(fork, 4)),)
    assert SIGNER.verifier.open(store.accusations()[0][1]).root == log.root(4)


def test_malformed_proofs_and_trees_are_refused(log: Log) -> None:
    witness = witness_service()
    empty = SIGNER.sign(Checkpoint(ORIGIN, 0, bytes(32)))
    assert witness.add_checkpoint(AddCheckpoint(0, (), empty).encode()).status == 422
    extra = AddCheckpoint(0, (bytes(32),), note_of(log, 4)).encode()
    assert witness.add_checkpoint(extra).status == 422
    assert witness.add_checkpoint(ask(log, 0, 4)).status == 200
    short = AddCheckpoint(4, log.consistency(4, 9)[:-1], note_of(log, 9)).encode()
    assert witness.add_checkpoint(short).status == 422
    larger = AddCheckpoint(9, (), note_of(log, 4)).encode()
    assert witness.add_checkpoint(larger).status == 400


def test_only_a_known_logs_own_signature_counts(log: Log) -> None:
    witness = witness_service()
    other = Signer("elsewhere.example", Ed25519PrivateKey.from_private_bytes(b"o" * 32))
    asked = AddCheckpoint(0, (), note_of(log, 4, other)).encode()
    assert witness.add_checkpoint(asked).status == 404
    impostor = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"i" * 32))
    asked = AddCheckpoint(0, (), note_of(log, 4, impostor)).encode()
    assert witness.add_checkpoint(asked).status == 403
    wrong = note_of(log, 4).replace("\n4\n", "\n5\n")
    assert witness.add_checkpoint(AddCheckpoint(0, (), wrong).encode()).status == 403
    assert witness.checkpoint(ORIGIN_HASH).status == 404


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"old 0\n",
        b"old 00\n\nnote",
        b"old -1\n\nnote",
        b"old 1 \n\nnote",
        b"new 0\n\nnote",
        b"old 0\nAAAA\n\nnote",
        b"old 0\n!\n\nnote",
        b"old 0\n\xff\n\nnote",
        b"old 0\n" + b"A" * 43 + b"=\n" * 1 + b"\x00\n\nnote",
        b"old 0\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\nnote",
        b"old 0\n\n" + b"x" * 80_000,
    ],
)
def test_a_malformed_request_is_refused(raw: bytes) -> None:
    assert witness_service().add_checkpoint(raw).status == 400


@given(st.integers(0, 2**62), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.text())
def test_a_request_reads_back(old: int, proof: list[bytes], note: str) -> None:
    asked = AddCheckpoint(old, tuple(proof), note)
    try:
        raw = asked.encode()
    except UnicodeEncodeError:
        return
    assert AddCheckpoint.parse(raw) == asked


@given(st.binary(max_size=200))
def test_whatever_arrives_is_answered_and_never_cosigned(raw: bytes) -> None:
    assert witness_service().add_checkpoint(raw).status in (400, 404)


def test_a_clock_that_went_back_stops_the_witness(log: Log) -> None:
    clock = ManualClock()
    store, anchor = MemoryWitnessStore(), MemoryAnchor()
    witness = witness_service(store=store, anchor=anchor, clock=clock)
    witness.add_checkpoint(ask(log, 0, 4))
    clock.jump(-10)
    for again in (witness, witness_service(store=store, anchor=anchor, clock=clock)):
        with pytest.raises(WitnessError, match="clock"):
            again.add_checkpoint(ask(log, 4, 9))
    clock.jump(10)
    assert witness.add_checkpoint(ask(log, 4, 9)).status == 200


def test_a_memory_that_was_rolled_back_cosigns_nothing(log: Log) -> None:
    anchor = MemoryAnchor()
    store, older = MemoryWitnessStore(), MemoryWitnessStore()
    witness = witness_service(store=store, anchor=anchor)
    witness.add_checkpoint(ask(log, 0, 4))
    older._seen, older._mark, older._before = dict(store._seen), store._mark, store._before
    witness.add_checkpoint(ask(log, 4, 6))
    witness.add_checkpoint(ask(log, 6, 9))
    for restored in (older, MemoryWitnessStore()):
        with pytest.raises(WitnessError, match="rolled back"):
            witness_service(store=restored, anchor=anchor)
    running = witness_service(store=store, anchor=anchor)
    running._store = older
    with pytest.raises(WitnessError, match="rolled back"):
        running.add_checkpoint(ask(log, 4, 9))


def test_a_memory_restored_and_grown_again_is_not_the_anchors(log: Log) -> None:
    anchor, store = MemoryAnchor(), MemoryWitnessStore()
    witness = witness_service(store=store, anchor=anchor)
    for old, size in ((0, 4), (4, 6), (6, 9)):
        witness.add_checkpoint(ask(log, old, size))
    grown = MemoryWitnessStore()
    other = witness_service(store=grown)
    for old, size in ((0, 3), (3, 5), (5, 8)):
        other.add_checkpoint(ask(log, old, size))
    with pytest.raises(WitnessError, match="rolled back"):
        witness_service(store=grown, anchor=anchor)


def test_a_missing_anchor_is_not_made_up(log: Log) -> None:
    store = MemoryWitnessStore()
    witness = witness_service(store=store)
    witness.add_checkpoint(ask(log, 0, 4))
    witness.add_checkpoint(ask(log, 4, 9))
    with pytest.raises(WitnessError, match="no anchor"):
        witness_service(store=store, anchor=MemoryAnchor())


def test_text_that_is_no_checkpoint_is_never_cosigned() -> None:
    with pytest.raises(CheckpointError):
        cosigner(0).cosign("some text\n", 5)
