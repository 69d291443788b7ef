"""What a report for standards rests on: files that Tidegate's commands wrote, known by content.

A file's SHA-256 goes into every finding that uses it, so that a reader can ask for exactly that
file. Nothing is taken from a file but what the command that wrote it says in it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from tidegate.audit.event import Place
from tidegate.audit.grants import Journal, read_journal
from tidegate.errors import TidegateError


class EvidenceError(TidegateError):
    """A file is no evidence that this report can use."""

    code = "evidence_unusable"


class Kind(StrEnum):
    """Which command wrote a file."""

    BENCH = "tidegate bench NAME --json"
    VERIFY = "tidegate verify --json"
    AUDIT = "tidegate audit --json"
    ATTEST = "tidegate attest --json"
    LOG = "tidegate log show --json"
    LOG_CHECK = "tidegate log verify --json"


Word = Literal["pass", "fail", "cannot_verify"]


class Figure(msgspec.Struct, frozen=True):
    """One figure of a benchmark."""

    value: float
    unit: str
    n: int
    target: str | None = None
    holds: bool | None = None


class Bench(msgspec.Struct, frozen=True):
    """A benchmark's output."""

    name: str
    figures: dict[str, Figure]


class _Told(msgspec.Struct, frozen=True):
    outcome: Word
    reason: str = ""


class _Leak(msgspec.Struct, frozen=True):
    bits_a_token: float
    share: float


class Verified(msgspec.Struct, frozen=True):
    """A re-execution's report."""

    tool: Literal["tidegate verify"]
    outcome: _Told
    tokens: int
    scored_tokens: int
    mismatches: int
    leak: _Leak | None = None


class _Finding(msgspec.Struct, frozen=True):
    kind: str
    level: str


class _Coverage(msgspec.Struct, frozen=True):
    who: str
    model: str
    under_grant: bool
    model_bytes: int
    most_bytes: int


class Audited(msgspec.Struct, frozen=True):
    """An audit's report."""

    events: int
    findings: list[_Finding]
    coverage: list[_Coverage]


class _Check(msgspec.Struct, frozen=True):
    number: int
    outcome: Word


class Attested(msgspec.Struct, frozen=True):
    """An appraisal of hardware evidence."""

    kind: str
    outcome: Word
    checks: list[_Check]
    at: str


class LogChecked(msgspec.Struct, frozen=True):
    """The check of a whole log, or of a proof."""

    outcome: Word
    claim: str = ""
    reason: str = ""
    witnesses: int = 0


@dataclass(frozen=True, slots=True)
class Logged:
    """A transparency log's entries, added up. `uploads`: (size, bits spent or None), in order."""

    entries: int
    kinds: Counter[str]
    journal: Journal
    approvals_signed: int
    approvals: int
    releases_attested: int
    uploads: dict[str, list[tuple[int, int | None]]] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)


Facts = Bench | Verified | Audited | Attested | LogChecked | Logged


@dataclass(frozen=True, slots=True)
class Evidence:
    """One file. `name` is as it was given, without folders."""

    kind: Kind
    name: str
    sha256: str
    size: int
    facts: Facts = field(compare=False)


_GRANTS: Final = ("grant", "release")

_BY_KEYS: Final[tuple[tuple[frozenset[str], Kind, type[Any]], ...]] = (
    (frozenset({"figures", "name"}), Kind.BENCH, Bench),
    (frozenset({"tool", "scored_tokens"}), Kind.VERIFY, Verified),
    (frozenset({"events", "coverage", "findings"}), Kind.AUDIT, Audited),
    (frozenset({"kind", "checks", "bound"}), Kind.ATTEST, Attested),
    (frozenset({"outcome", "claim"}), Kind.LOG_CHECK, LogChecked),
    (frozenset({"outcome", "reason"}), Kind.LOG_CHECK, LogChecked),
)


def read(name: str, raw: bytes) -> Evidence:
    """Recognise a file.

    Raises:
        EvidenceError: no command of those in `Kind` writes such a file.
    """
    digest = hashlib.sha256(raw).hexdigest()
    try:
        kind, facts = _recognised(name, raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        known = "; ".join(one.value for one in Kind)
        raise EvidenceError(f"{name} is none of: {known} ({error})", file=name) from error
    return Evidence(kind, name, digest, len(raw), facts)


def _recognised(name: str, raw: bytes) -> tuple[Kind, Facts]:
    first, _, rest = raw.strip().partition(b"\n")
    if first.startswith(b'{"body"') and first.endswith(b"}"):
        return Kind.LOG, _logged(name, [first, *filter(None, rest.split(b"\n"))])
    found = msgspec.json.decode(raw, type=dict[str, Any])
    for keys, kind, shape in _BY_KEYS:
        if keys <= found.keys():
            return kind, msgspec.convert(found, shape)
    raise EvidenceError(f"{name} is no file that a report can rest on", file=name)


class _Line(msgspec.Struct):
    kind: str
    body: dict[str, Any]
    index: int


class _Does(msgspec.Struct):
    kind: str
    assertion: dict[str, Any] = {}
    evidence: dict[str, Any] = {}


class _Body(msgspec.Struct):
    does: _Does


class _Upload(msgspec.Struct):
    origin: str
    size: int
    spent_bits: int | None = None


def _logged(name: str, lines: Sequence[bytes]) -> Logged:
    decoded = [msgspec.json.decode(line, type=_Line) for line in lines]
    for number, line in enumerate(decoded):
        if line.index != decoded[0].index + number:
            raise EvidenceError(
                f"{name} lacks entry {decoded[0].index + number}: give the whole log, not a part",
                file=name,
            )
    if decoded[0].index:
        raise EvidenceError(f"{name} begins with entry {decoded[0].index}, not 0", file=name)
    places = [Place(0, number) for number in range(1, len(lines) + 1)]
    journal = read_journal(zip(places, lines, strict=True))
    # Anybody may log a body of his own under these kinds; only the broker's can be counted.
    grants = [
        msgspec.convert(one.body, _Body)
        for one in decoded
        if one.kind in _GRANTS and "does" in one.body
    ]
    approvals = [one.does for one in grants if one.does.kind == "approve"]
    releases = [one.does for one in grants if one.does.kind == "release"]
    made = Logged(
        entries=len(decoded),
        kinds=Counter(line.kind for line in decoded),
        journal=journal,
        approvals=len(approvals),
        approvals_signed=sum(bool(one.assertion.get("signature")) for one in approvals),
        releases_attested=sum(bool(one.evidence.get("digest")) for one in releases),
    )
    for line in decoded:
        if line.kind == "upload":
            upload = msgspec.convert(line.body, _Upload)
            made.uploads.setdefault(upload.origin, []).append((upload.size, upload.spent_bits))
        if line.kind == "verdict":
            made.verdicts[str(line.body.get("outcome"))] += 1
    return made


def of_kind(evidence: Sequence[Evidence], kind: Kind) -> Iterator[Evidence]:
    """Those of one kind, in the order given."""
    return (one for one in evidence if one.kind is kind)
