"""T0: a signed note in which somebody answers for model, request, answer and trace (spec/prove.md).

The note is a C2SP signed note as the ledger's checkpoints are, so the same tools hold and
countersign both. Pure.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from tidegate.prove.statement import FIELDS, Statement, digests
from tidegate.prove.tiers import Tier
from tidegate.prove.verdict import CannotVerify, Fail, FoundError, Pass, Place, Verdict
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Signer, Verifier

HEADER: Final = "tidegate-receipt/1"
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The model that is answered for: engine by name, the rest by SHA-256.

    `weights` is the root of the converted folder's manifest, which covers the other two as well;
    they are named so that a verdict can say what differs.
    """

    engine: str
    weights: bytes
    config: bytes
    tokenizer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a signer committed to. `digests` are in the order of `statement.FIELDS`; `trace` is the
    root over the trace, None where none was made."""

    tier: Tier
    subject: Subject
    digests: tuple[bytes, ...]
    trace: bytes | None

    def text(self) -> str:
        """The note's text: a header and one `name value` line a field."""
        subject = self.subject
        rows = [
            ("tier", self.tier.value),
            ("engine", subject.engine),
            ("weights", subject.weights.hex()),
            ("config", subject.config.hex()),
            ("tokenizer", subject.tokenizer.hex()),
            *((name, digest.hex()) for name, digest in zip(FIELDS, self.digests, strict=True)),
            ("trace", "none" if self.trace is None else self.trace.hex()),
        ]
        return "".join(f"{line}\n" for line in [HEADER, *(f"{n} {v}" for n, v in rows)])


def make(statement: Statement, subject: Subject, *, tier: Tier, trace: bytes | None) -> Receipt:
    """The receipt for a statement, not yet signed."""
    values = digests(statement)
    return Receipt(
        tier=tier, subject=subject, digests=tuple(values[name] for name in FIELDS), trace=trace
    )


def sign(receipt: Receipt, signer: Signer) -> str:
    """The signed note."""
    return signer.sign_text(receipt.text())


def open_receipt(note: str, trusted: Verifier) -> Receipt:
    """The receipt in a note that `trusted` signed.

    Raises FoundError at `receipt` if it is not signed so, or not spelled as this module spells it.
    """
    place = Place(part="receipt")
    try:
        text = trusted.open_text(note)
    except (CheckpointError, UnicodeError) as error:
        raise FoundError(place, str(error)) from error
    receipt = parse(text)
    if receipt is None or receipt.text() != text:
        raise FoundError(place, "the signed text is not a receipt in its one spelling")
    return receipt


def parse(text: str) -> Receipt | None:
    """Read a note's text, signed or not; None if it is no receipt."""
    header, *rows = text.splitlines() or [""]
    names = ["tier", "engine", "weights", "config", "tokenizer", *FIELDS, "trace"]
    pairs = [row.partition(" ") for row in rows]
    if header != HEADER or [name for name, _, _ in pairs] != names:
        return None
    tier, engine, *hexes, trace = (value for _, _, value in pairs)
    try:
        values = tuple(bytes.fromhex(value) for value in hexes)
        root = None if trace == "none" else bytes.fromhex(trace)
        kind = Tier(tier)
    except ValueError:
        return None
    if any(len(value) != _DIGEST_BYTES for value in (*values, *filter(None, [root]))):
        return None
    subject = Subject(engine=engine, weights=values[0], config=values[1], tokenizer=values[2])
    return Receipt(tier=kind, subject=subject, digests=values[3:], trace=root)


def compare(receipt: Receipt, statement: Statement) -> None:
    """Raise FoundError naming the first field in which the receipt is for something else."""
    expected = digests(statement)
    for name, digest in zip(FIELDS, receipt.digests, strict=True):
        if not hmac.compare_digest(digest, expected[name]):
            raise FoundError(
                Place(part=name), f"the receipt commits to another {name} than the statement has"
            )


def differing(receipt: Receipt, subject: Subject) -> Sequence[str]:
    """Fields in which the receipt names another model than `subject`."""
    return [
        field.name
        for field in fields(Subject)
        if getattr(receipt.subject, field.name) != getattr(subject, field.name)
    ]


def check(note: str, statement: Statement, trusted: Verifier, subject: Subject | None) -> Verdict:
    """T0: the note is signed, and for this statement and (unless None) this model."""
    tier = Tier.RECEIPT
    try:
        receipt = open_receipt(note, trusted)
        compare(receipt, statement)
    except FoundError as found:
        return Fail(tier=tier, place=found.place, reason=found.reason)
    if subject is not None and (names := differing(receipt, subject)):
        return CannotVerify(
            tier=tier, reason=f"the receipt is for a model with other {', '.join(names)}"
        )
    limits = () if subject is not None else ("which model the receipt names: none was given",)
    return Pass(
        tier=tier,
        coverage=f"the signature of {trusted.name} and {len(FIELDS)} fields of the statement",
        limits=limits,
    )
