"""What the fleet has to do: the record cut into shards, each a task that may be done any number of
times and counts once.

A shard is named by what it is of and what is in it. A record that has grown is cut into the same
shards and more, so verdicts that are there stay good; another model, rule or selection gives other
names. Pure.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tidegate.verify.replay_model import Spec
from tidegate.verify.replay_results import Subject

VERSION: Final = 1

_Id = Annotated[str, Meta(pattern="^[0-9a-f]{40}$")]


class Answer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An answer by the entry that begins it and the digest (hex) of all its entries."""

    number: int
    digest: str


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers that are re-executed together, in the order of the record.

    All their entries lie from byte `offset` of `segment` up to entry `last`. `tokens` counts those
    of prompts and answers: about what re-executing them takes.
    """

    segment: int
    offset: int
    last: int
    tokens: int
    answers: tuple[Answer, ...]

    def name(self, subject: Subject) -> str:
        """The shard's name, for results of `subject`."""
        return shard_name(subject, self.answers)


def shard_name(subject: Subject, answers: tuple[Answer, ...]) -> str:
    """40 hex digits: SHA-256 of what the results are of and of the answers."""
    said = (msgspec.json.encode(subject), msgspec.json.encode(answers))
    return hashlib.sha256(b"tidegate shard\0" + b"\0".join(said)).hexdigest()[:40]


class Ticket(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A shard by name, with what it takes."""

    name: _Id
    answers: int
    tokens: int


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All shards of a record, as far as it was signed when it was read.

    `subject` is what results are of, `spec` the model that workers open; `flagged` and `dangerous`
    picked the rule's margins (`calibrate.operating_point`). `findings` counts, by kind, what was
    wrong with the record already when it was cut: none of these answers is in a shard, and the
    report finds them again.
    """

    version: int
    subject: Subject
    spec: Spec
    vocab_size: int
    flagged: float
    dangerous: float
    signed: int
    findings: dict[str, int]
    tickets: tuple[Ticket, ...]

    @property
    def answers(self) -> int:
        """Answers in all shards."""
        return sum(ticket.answers for ticket in self.tickets)

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers in all shards."""
        return sum(ticket.tokens for ticket in self.tickets)
