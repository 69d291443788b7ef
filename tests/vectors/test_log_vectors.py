"""The published vectors of the log hold, for the code and for the definitions read anew here."""

from __future__ import annotations

import hashlib
from functools import reduce

import log_vectors
import make_log_vectors as tool
import msgspec
import pytest

from tidegate.clock import ManualClock
from tidegate.transparency.cosign import WitnessKey
from tidegate.transparency.entry import encode, parse
from tidegate.transparency.errors import CheckpointError, EntryError
from tidegate.transparency.note import Verifier
from tidegate.transparency.outcome import CannotVerify, Fail, Pass
from tidegate.transparency.policy import PolicyError
from tidegate.transparency.policy import parse as parse_policy
from tidegate.transparency.proof import Proof, check
from tidegate.transparency.tiles import Tile
from tidegate.transparency.tree import consistent, included
from tidegate.transparency.witness import AddCheckpoint
from tidegate.transparency.witness_anchor import MemoryAnchor
from tidegate.transparency.witness_service import WitnessService
from tidegate.transparency.witness_store_memory import MemoryWitnessStore

FILE = msgspec.json.decode((tool.VECTORS / "log.json").read_bytes(), type=log_vectors.LogFile)
ROOTS = {case.size: case.root for case in FILE.trees}


def cases(group: str):
    return [pytest.param(case, id=case.note) for case in getattr(FILE, group)]


def raw(proof: list[str]) -> list[bytes]:
    return [bytes.fromhex(part) for part in proof]


@pytest.mark.parametrize("name", ["log.json", "log.schema.json"])
def test_the_code_produces_the_published_files(name):
    assert (tool.VECTORS / name).read_bytes() == tool.build()[name]


@pytest.mark.parametrize("case", cases("entries"))
def test_an_entry_has_these_bytes_and_this_leaf(case):
    logged = parse(case.entry.encode(), 0)
    assert encode(logged.entry) == case.entry.encode()
    assert hashlib.sha256(b"\0" + case.entry.encode()).hexdigest() == case.leaf


@pytest.mark.parametrize("case", cases("refused"))
def test_other_bytes_are_no_entry(case):
    with pytest.raises(EntryError):
        parse(case.entry.encode(), 0)


def merkle(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + merkle(leaves[:k]) + merkle(leaves[k:])).digest()


@pytest.mark.parametrize("case", cases("trees"))
def test_a_tree_has_this_root(case):
    leaves = [hashlib.sha256(b"\0entry %d" % n).digest() for n in range(case.size)]
    assert merkle(leaves).hex() == case.root


@pytest.mark.parametrize("case", cases("inclusion"))
def test_a_leaf_is_in_its_tree(case):
    leaf = hashlib.sha256(b"\0entry %d" % case.index).digest()
    root = tool.LOG.root(case.size)
    assert included(leaf, case.index, case.size, raw(case.proof), root)
    assert case.size not in ROOTS or root.hex() == ROOTS[case.size]


@pytest.mark.parametrize("case", cases("consistency"))
def test_a_tree_extends_the_smaller_one(case):
    old, new = tool.LOG.root(case.old), tool.LOG.root(case.size)
    assert consistent(case.old, old, case.size, new, raw(case.proof))


@pytest.mark.parametrize("case", cases("tiles"))
def test_a_resource_has_these_bytes(case):
    tile = Tile.parse(case.path)
    assert tile is not None
    leaves = [hashlib.sha256(b"\0entry %d" % n).digest() for n in range(tool.TREE)]
    low = 256 * tile.number
    expected = {
        None: b"".join(
            len(b"entry %d" % n).to_bytes(2, "big") + b"entry %d" % n
            for n in range(low, low + tile.width)
        ),
        0: b"".join(leaves[low : low + tile.width]),
        1: merkle(leaves[:256]),
    }[tile.level]
    assert (len(expected), hashlib.sha256(expected).hexdigest()) == (case.bytes, case.sha256)


@pytest.mark.parametrize("case", cases("cosignatures"))
def test_a_cosignature_says_when_or_spoils_the_note(case):
    key = WitnessKey.parse(case.key)
    if case.time is None:
        with pytest.raises(CheckpointError):
            key.find(case.signed)
        return
    found = key.find(case.signed)
    assert found is not None
    assert found.time == case.time
    assert Verifier.parse(FILE.log_key).open(case.signed).size == 7


@pytest.mark.parametrize("case", cases("policies"))
def test_a_policy_counts_so(case):
    if case.refused:
        with pytest.raises(PolicyError):
            parse_policy(case.policy)
        return
    policy = parse_policy(case.policy)
    assert [policy.satisfied(names) for names, _ in case.quorums] == [it for _, it in case.quorums]


def test_a_witness_answers_the_series_so_and_its_memory_is_chained_so():
    service = WitnessService(
        [tool.witness_key(1)],
        {tool.ORIGIN: [Verifier.parse(FILE.log_key)]},
        MemoryWitnessStore(),
        MemoryAnchor(),
        ManualClock(tool.TIME),
    )
    for case in FILE.witness:
        reply = service.add_checkpoint(case.request.encode())
        assert reply.status == case.status, case.note
        if case.status == 200:
            note = AddCheckpoint.parse(case.request.encode()).note
            assert WitnessKey.parse(FILE.witness_key).find(note + reply.body) is not None
            assert note.split("\n")[1] == case.answer
        else:
            assert reply.body == case.answer
    heads = reduce(
        lambda heads, mark: [
            *heads,
            hashlib.sha256(
                b"\3" + heads[-1] + mark.time.to_bytes(8, "big") + mark.kept.encode()
            ).digest(),
        ],
        FILE.marks,
        [bytes(32)],
    )
    assert [head.hex() for head in heads[1:]] == [mark.head for mark in FILE.marks]
    assert [mark.number for mark in FILE.marks] == [1, 2, 3]


@pytest.mark.parametrize("case", cases("proofs"))
def test_a_proof_comes_to_this(case):
    outcome = check(Proof.parse(case.proof), case.entry.encode(), parse_policy(case.policy))
    words = {Pass: "pass", Fail: "fail", CannotVerify: "cannot_verify"}
    assert words[type(outcome)] == case.outcome
