"""`spec/vectors/ledger.json` holds, and its schema is the one these structures have."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import pytest

from tidegate.ledger import Budget, Budgets, InvalidEntryError, Scope, apportion
from tidegate.ledger.entries import encode, parse
from tidegate.ledger.state import Fold, State
from tidegate.transparency import tree
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Verifier

VECTORS = Path(__file__).parents[3] / "spec" / "vectors"
BUDGETS = Budgets(name="vectors", total=Budget(), edges=(), principal=Budget())


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Line(_Strict, frozen=True):
    """One entry of the example log, and the hashes after it, in hexadecimal."""

    prose: str
    entry: str
    leaf_hash: str
    head: str
    root: str


class Total(_Strict, frozen=True):
    """What the example log adds up to on one account."""

    scope: str
    spent: int
    reserved: int


class Refused(_Strict, frozen=True):
    """Bytes that must not be accepted in place of entry `n` of the example log."""

    prose: str
    n: int
    entry: str


class Inclusion(_Strict, frozen=True):
    """A proof that entry `index` is in the example log's first `size` entries."""

    index: int
    size: int
    proof: tuple[str, ...]


class Consistency(_Strict, frozen=True):
    """A proof that the example log's first `size` entries extend its first `old_size`."""

    old_size: int
    size: int
    proof: tuple[str, ...]


class Note(_Strict, frozen=True):
    """A note that `key` did (`valid`) or did not sign as its log's checkpoint."""

    prose: str
    key: str
    note: str
    valid: bool


class Split(_Strict, frozen=True):
    """Whole bits apportioned over weights."""

    prose: str
    bits: int
    weights: tuple[int, ...]
    shares: tuple[int, ...]


class Vectors(_Strict, frozen=True):
    """Test vectors for spec/ledger.md."""

    log: tuple[Line, ...]
    balances: tuple[Total, ...]
    refused: tuple[Refused, ...]
    inclusion: tuple[Inclusion, ...]
    consistency: tuple[Consistency, ...]
    checkpoints: tuple[Note, ...]
    splits: tuple[Split, ...]


@cache
def vectors() -> Vectors:
    return msgspec.json.decode((VECTORS / "ledger.json").read_bytes(), type=Vectors)


def leaves() -> list[bytes]:
    return [tree.leaf_hash(line.entry.encode()) for line in vectors().log]


def schema() -> bytes:
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Vectors)), indent=2) + b"\n"


def test_the_schema_is_that_of_the_vectors() -> None:
    assert (VECTORS / "ledger.schema.json").read_bytes() == schema()


def test_the_example_log_has_the_stated_hashes_and_balances() -> None:
    fold = Fold(State(BUDGETS))
    for line in vectors().log:
        raw = line.entry.encode()
        assert encode(parse(raw, fold.size)) == raw
        fold.take(raw)
        assert tree.leaf_hash(raw).hex() == line.leaf_hash, line.prose
        assert fold.head.hex() == line.head, line.prose
        assert tree.frontier_root(fold.frontier).hex() == line.root, line.prose
    state = fold.state()
    for total in vectors().balances:
        balance = state.account(Scope(total.scope)).balance(state.time)
        assert (balance.spent, balance.reserved) == (total.spent, total.reserved)


@pytest.mark.parametrize("case", vectors().refused, ids=lambda case: case.prose)
def test_a_bad_entry_is_refused_in_its_place(case: Refused) -> None:
    fold = Fold(State(BUDGETS))
    for line in vectors().log[: case.n]:
        fold.take(line.entry.encode())
    with pytest.raises(InvalidEntryError) as caught:
        fold.take(case.entry.encode())
    assert caught.value.entry == case.n


def test_the_proofs_are_those_made_and_they_hold() -> None:
    for case in vectors().inclusion:
        proof = tuple(map(bytes.fromhex, case.proof))
        some, root = leaves()[: case.size], tree.root_of(leaves()[: case.size])
        assert tree.inclusion_proof(some, case.index) == proof
        assert tree.included(some[case.index], case.index, case.size, proof, root)
    for change in vectors().consistency:
        proof = tuple(map(bytes.fromhex, change.proof))
        new = leaves()[: change.size]
        old_root, root = tree.root_of(new[: change.old_size]), tree.root_of(new)
        assert tree.consistency_proof(new, change.old_size) == proof
        assert tree.consistent(change.old_size, old_root, change.size, root, proof)


@pytest.mark.parametrize("case", vectors().checkpoints, ids=lambda case: case.prose)
def test_a_checkpoint_opens_only_under_its_logs_key(case: Note) -> None:
    verifier = Verifier.parse(case.key)
    if case.valid:
        checkpoint = verifier.open(case.note)
        assert checkpoint.root.hex() == vectors().log[checkpoint.size - 1].root
    else:
        with pytest.raises(CheckpointError):
            verifier.open(case.note)


@pytest.mark.parametrize("case", vectors().splits, ids=lambda case: case.prose)
def test_bits_are_split_as_stated(case: Split) -> None:
    assert apportion(case.bits, case.weights) == case.shares
