"""The layout of `spec/vectors/evidence-*.json`, and how evidence is kept small in it."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import msgspec
from evidence_authorities import NOW

Base64 = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9+/]*=*$")]
Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]
Note = Annotated[str, msgspec.Meta(min_length=5)]


class Struct(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all records: unknown fields are an error."""


class Turned(Struct):
    """A file that is another with some bytes replaced. at: pairs of an offset and new bytes."""

    of: str
    at: list[tuple[int, Hex]]


class Case(Struct):
    """Evidence, what it is held against, and what must come of it.

    `evidence` names a blob or turns one; the companions name blobs. `policy` is the section of the
    policy file. `nonce` is left out where nobody asked for one. `checks` names every check that
    does not pass, in order; with the outcome `malformed` there is none.
    """

    note: Note
    kind: str
    evidence: str | Turned
    outcome: Literal["pass", "fail", "cannot_verify", "malformed"]
    checks: list[str] = []
    certificates: list[str] = []
    others: list[str] = []
    crls: list[str] = []
    policy: dict[str, Any] = {}
    roots: list[Hex] = []
    nonce: Hex | None = None
    now: str = NOW.isoformat()
    revocation: bool = False


class EvidenceFile(Struct):
    """A file of vectors. blobs: files by name, in base64; every certificate in them is made up."""

    spec: str
    blobs: dict[str, Base64]
    cases: list[Case]


class Blobs:
    """Gathers files under names; evidence is kept as its difference from the first of a name."""

    def __init__(self) -> None:
        self.named: dict[str, bytes] = {}

    def add(self, name: str, data: bytes) -> str:
        """Keep a file, once; returns the name that it has."""
        known = next((key for key, value in self.named.items() if value == data), None)
        if known is not None:
            return known
        name = name if name not in self.named else f"{name} {len(self.named)}"
        self.named[name] = data
        return name

    def evidence(self, name: str, data: bytes) -> str | Turned:
        """Keep evidence: by name, or as a stored file of the same length with bytes turned."""
        whole = self.named.get(name)
        if whole is None or data == whole:
            return self.add(name, data)
        if len(whole) != len(data):
            return self.add(name, data)
        found = Turned(name, list(_differences(whole, data)))
        return found if len(msgspec.json.encode(found)) < len(data) else self.add(name, data)

    def encoded(self) -> dict[str, str]:
        return {name: base64.b64encode(data).decode() for name, data in self.named.items()}


def _differences(old: bytes, new: bytes) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    at = 0
    while at < len(new):
        if old[at] == new[at]:
            at += 1
            continue
        end = at
        while end < len(new) and old[end : end + 4] != new[end : end + 4]:
            end += 1
        found.append((at, new[at:end].hex()))
        at = end
    return found


def evidence_of(file: EvidenceFile, case: Case) -> bytes:
    """The evidence of a case."""
    if isinstance(case.evidence, str):
        return base64.b64decode(file.blobs[case.evidence])
    data = bytearray(base64.b64decode(file.blobs[case.evidence.of]))
    for at, new in case.evidence.at:
        data[at : at + len(new) // 2] = bytes.fromhex(new)
    return bytes(data)


def files_of(file: EvidenceFile, names: list[str]) -> tuple[bytes, ...]:
    """Companions of a case."""
    return tuple(base64.b64decode(file.blobs[name]) for name in names)
