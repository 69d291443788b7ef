"""The shape of spec/vectors/log.json."""

from __future__ import annotations

from typing import Annotated

import msgspec

Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]
Note = Annotated[str, msgspec.Meta(min_length=10)]


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    """Base of all records: unknown fields are an error."""


class EntryCase(Struct):
    """The canonical bytes of an entry, as text, and its leaf hash."""

    note: Note
    entry: str
    leaf: Hex


class RefusedCase(Struct):
    """Bytes, as text, that are no entry."""

    note: Note
    entry: str


class TreeCase(Struct):
    """The root of the first `size` leaves of the tree whose entry n is the text `entry n`."""

    note: Note
    size: int
    root: Hex


class InclusionCase(Struct):
    """A proof that leaf `index` is in that tree of `size` leaves."""

    note: Note
    index: int
    size: int
    proof: list[Hex]


class ConsistencyCase(Struct):
    """A proof that that tree of `size` leaves extends that of `old`."""

    note: Note
    old: int
    size: int
    proof: list[Hex]


class TileCase(Struct):
    """A resource of that tree of 300 leaves: its path, and the SHA-256 of its bytes."""

    note: Note
    path: str
    bytes: int
    sha256: Hex


class CosignatureCase(Struct):
    """A note with a cosignature of `key`; `time` is null where the whole note is to be refused."""

    note: Note
    key: str
    signed: str
    time: int | None


class PolicyCase(Struct):
    """A policy, and whether sets of its witnesses make the quorum; no sets if it is refused."""

    note: Note
    policy: str
    quorums: list[tuple[list[str], bool]]
    refused: bool = False


class WitnessCase(Struct):
    """One request of a series to one witness, and its answer; of a 200 only the size is given."""

    note: Note
    request: str
    status: int
    answer: str


class ProofCase(Struct):
    """A tlog-proof of an entry under a policy: pass, fail or cannot_verify."""

    note: Note
    policy: str
    proof: str
    entry: str
    outcome: str


class MarkCase(Struct):
    """The link of a witness's memory after it kept `kept` at `time`."""

    note: Note
    kept: str
    time: int
    number: int
    head: Hex


class LogFile(Struct):
    """Test vectors for spec/log.md."""

    log_key: str
    witness_key: str
    entries: list[EntryCase]
    refused: list[RefusedCase]
    trees: list[TreeCase]
    inclusion: list[InclusionCase]
    consistency: list[ConsistencyCase]
    tiles: list[TileCase]
    cosignatures: list[CosignatureCase]
    policies: list[PolicyCase]
    witness: list[WitnessCase]
    marks: list[MarkCase]
    proofs: list[ProofCase]
