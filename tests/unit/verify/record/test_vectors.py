"""`spec/vectors/record.json` holds, and its schema is the one these structures have."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from record_world import with_lines

from tidegate.record.private import Private, binding_of, pack
from tidegate.transparency.note import Verifier
from tidegate.transparency.tree import leaf_hash
from tidegate.verify.record_findings import Finding
from tidegate.verify.record_fold import Fold
from tidegate.verify.record_lines import EntryLine, Mark, parse_line
from tidegate.verify.record_reader import Expected, Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_seal import Opener, open_private
from tidegate.verify.selection import Policy, Subject, commitment, draw, epoch_key, threshold

VECTORS = Path(__file__).parents[4] / "spec" / "vectors"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Line(_Strict, frozen=True):
    """One line of the example record; for an entry the hashes after it, in hexadecimal."""

    prose: str
    line: str
    leaf_hash: str = ""
    root: str = ""


class Answer(_Strict, frozen=True):
    """An answer of the example record, and what of it is private once it is opened."""

    number: int
    digest: str
    tokens: tuple[int, ...]
    reason: str
    info: str
    private: str


class Refused(_Strict, frozen=True):
    """A line put in place of line `place` (from 0) of the record, and what it is found to be."""

    prose: str
    place: int
    line: str
    finding: str


class Lot(_Strict, frozen=True):
    """An answer's lot in an epoch, under a secret, in hexadecimal."""

    secret: str
    epoch: int
    origin: str
    number: int
    digest: str
    key: str
    commitment: str
    lot: str


class Threshold(_Strict, frozen=True):
    """Below which lots are selected at rate `numerator / denominator`, in hexadecimal."""

    numerator: int
    denominator: int
    by: Literal["message", "token"]
    tokens: int
    threshold: str


class Vectors(_Strict, frozen=True):
    """Test vectors for spec/record.md. `opener` is the verifier's X25519 private key."""

    key: str
    opener: str
    log: tuple[Line, ...]
    answers: tuple[Answer, ...]
    refused: tuple[Refused, ...]
    lots: tuple[Lot, ...]
    thresholds: tuple[Threshold, ...]


@cache
def vectors() -> Vectors:
    return msgspec.json.decode((VECTORS / "record.json").read_bytes(), type=Vectors)


def schema() -> bytes:
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Vectors)), indent=2) + b"\n"


def found(lines: list[str]) -> list[Response | Finding]:
    store = with_lines(line.encode() + b"\n" for line in lines)
    reader = Reader(store, Verifier.parse(vectors().key), expected=Expected(loras=None))
    return [*reader.read(), *reader.finish()]


def test_the_schema_is_that_of_the_vectors() -> None:
    assert (VECTORS / "record.schema.json").read_bytes() == schema()


def test_the_example_record_has_the_stated_hashes() -> None:
    fold = Fold()
    for line in vectors().log:
        parsed = parse_line(line.line.encode())
        if isinstance(parsed, Mark):
            assert parsed == fold.mark()
        if isinstance(parsed, EntryLine):
            assert leaf_hash(parsed.raw).hex() == line.leaf_hash, line.prose
            fold.link(parsed.raw, parsed.head)
            assert fold.root.hex() == line.root, line.prose


def test_the_example_record_is_read_and_opened() -> None:
    opener = Opener(X25519PrivateKey.from_private_bytes(bytes.fromhex(vectors().opener)))
    responses = found([line.line for line in vectors().log])
    assert len(responses) == len(vectors().answers)
    for response, answer in zip(responses, vectors().answers, strict=True):
        assert isinstance(response, Response)
        assert (response.number, response.tokens) == (answer.number, answer.tokens)
        assert (response.digest.hex(), response.end.reason.value) == (answer.digest, answer.reason)
        private = open_private(response.begin, response.number, opener)
        assert isinstance(private, Private)
        assert pack(private).hex() == answer.private
        assert binding_of(response.begin).hex() == answer.info


@pytest.mark.parametrize("case", vectors().refused, ids=lambda case: case.prose)
def test_a_bad_line_is_found_in_its_place(case: Refused) -> None:
    lines = [line.line for line in vectors().log]
    lines[case.place] = case.line
    kinds = {item.kind.value for item in found(lines) if isinstance(item, Finding)}
    assert case.finding in kinds


def test_lots_and_thresholds_are_as_stated() -> None:
    for case in vectors().lots:
        key = epoch_key(bytes.fromhex(case.secret), case.epoch)
        assert key.hex() == case.key
        assert commitment(key, case.origin, case.epoch).hex() == case.commitment
        subject = Subject(case.origin, case.number, bytes.fromhex(case.digest), 1)
        assert draw(key, subject) == int(case.lot, 16)
    for limit in vectors().thresholds:
        policy = Policy(Fraction(limit.numerator, limit.denominator), limit.by)
        assert threshold(policy, limit.tokens) == int(limit.threshold, 16)
