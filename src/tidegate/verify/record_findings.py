"""What can be wrong with a record, by name. A finding is never a pass."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final

import msgspec

KEPT: Final = 1_000
"""Findings kept in full; beyond it they are only counted, so that a hostile record stays cheap."""


class Kind(StrEnum):
    """What is wrong."""

    CORRUPT = "corrupt"
    """A line cannot be read, or does not chain to what stands before it."""
    TRUNCATED = "truncated"
    """The last line is torn."""
    REORDERED = "reordered"
    """An entry stands where another should, or speaks of an answer that is over."""
    DUPLICATED = "duplicated"
    """An entry, a token's place or an answer occurs twice."""
    MISSING = "missing"
    """Entries, a segment, or tokens of an answer are not there."""
    OVERSIZED = "oversized"
    """More at once than any writer leaves: open answers, tokens, or the length of a line."""
    UNKNOWN_MODEL = "unknown_model"
    WRONG_TOKENIZER = "wrong_tokenizer"
    WRONG_TEMPLATE = "wrong_template"
    UNKNOWN_LORA = "unknown_lora"
    CONTRADICTORY_SEEDS = "contradictory_seeds"
    """A seed is not the one committed to, not the one derived, or serves two answers."""
    FORGED_CHECKPOINT = "forged_checkpoint"
    """A checkpoint is malformed or not signed by the record's key."""
    ALTERED = "altered"
    """The entries are not those of a checkpoint that the record itself holds, rightly signed."""
    ROLLBACK = "rollback"
    """The record ends before a checkpoint kept elsewhere."""
    SPLIT_VIEW = "split_view"
    """Two signed checkpoints of which neither extends the other."""
    UNREADABLE = "unreadable"
    """What is private of an answer cannot be opened with this verifier's key."""
    UNSIGNED = "unsigned"
    """The last entries are under no checkpoint."""
    UNFINISHED = "unfinished"
    """An answer has begun and not ended: still running, or its writer died."""
    UNRECORDED = "unrecorded"
    """The writer itself says that answers left unrecorded."""

    @property
    def conclusive(self) -> bool:
        """Whether it shows that somebody failed; otherwise it only keeps from verifying."""
        return self not in _OPEN


_OPEN: Final = frozenset({Kind.UNREADABLE, Kind.UNSIGNED, Kind.UNFINISHED, Kind.UNRECORDED})


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong.

    `entry` is where and `response` which answer it spoils, where that is known; `reason` is a
    sentence without anything that a user wrote.
    """

    kind: Kind
    reason: str
    entry: int | None = None
    response: int | None = None


class Findings:
    """What was found so far: counted all, kept the first `KEPT`."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self.kept: list[Finding] = []

    def add(self, finding: Finding) -> None:
        self.counts[finding.kind] += 1
        if len(self.kept) < KEPT:
            self.kept.append(finding)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a record came to. `signed` entries are under its last good checkpoint.

    `findings` are the first; `counts` holds how many of each kind there are in all.
    """

    entries: int
    responses: int
    tokens: int
    signed: int
    root: str
    counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing at all was found."""
        return not self.counts

    @property
    def conclusive(self) -> bool:
        """Whether something was found that shows that somebody failed."""
        return any(Kind(kind).conclusive for kind in self.counts)

    def json(self) -> bytes:
        """One JSON object, of whole numbers and text only."""
        return msgspec.json.encode(self)
