"""What goes into the log from the other rooms: where the upload ledger stood, and verdicts. Pure.

Bodies of grants and releases are the broker's own (`spec/grants.md`).
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from tidegate.transparency.entry import Body, Kind
from tidegate.transparency.errors import EntryError
from tidegate.transparency.log import Log, Position
from tidegate.transparency.note import Verifier

_MOST_REASON: Final = 1_000


def log_upload(log: Log, note: str, key: Verifier, *, spent: int | None = None) -> Position:
    """Put the upload ledger's signed checkpoint into the log, once a size.

    From then on nobody can rewrite the ledger before that point without the log showing it.

    Args:
        log: where to.
        note: from `Ledger.checkpoint`.
        key: the ledger's key.
        spent: bits spent in total at that point, for readers who have no ledger.

    Raises:
        CheckpointError: the note is not the ledger's.
        LogError: it could not be logged.
    """
    point = key.open(note)
    body: dict[str, str | int] = {
        "origin": point.origin,
        "size": point.size,
        "root": point.root.hex(),
        "note": note,
    }
    if spent is not None:
        body["spent_bits"] = spent
    return log.append(Kind.UPLOAD, body, once=_short(f"upload/{point.origin}/{point.size}"))


class _Outcome(msgspec.Struct, frozen=True):
    outcome: str
    reason: str = ""


class _Verified(msgspec.Struct, frozen=True):
    record: str = ""
    model: str = ""
    fingerprint: str = ""


class _Report(msgspec.Struct, frozen=True):
    tool: str
    outcome: _Outcome
    version: str = ""
    verified: _Verified = _Verified()
    root: str = ""
    signed: int = 0
    tokens: int = 0
    scored_tokens: int = 0
    mismatches: int = 0


def log_verdict(log: Log, report: bytes) -> Position:
    """Put a verifier's conclusion into the log, once a report.

    Args:
        log: where to.
        report: what `tidegate verify --json` printed. The log holds its hash and the outcome; keep
            the report itself, for the log cannot give it back.

    Raises:
        EntryError: this is no such report. LogError: it could not be logged.
    """
    body = verdict_body(report)
    return log.append(Kind.VERDICT, body, once=f"verdict/{body['sha256']}")


def verdict_body(report: bytes) -> Body:
    """The body of a verdict's entry. Raises EntryError: this is no report of a verification."""
    try:
        found = msgspec.json.decode(report, type=_Report)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EntryError(f"This is no report of `tidegate verify --json`: {error}") from error
    if found.outcome.outcome not in ("pass", "fail", "cannot_verify"):
        raise EntryError("A verdict is pass, fail or cannot_verify.")
    return {
        "sha256": hashlib.sha256(report).hexdigest(),
        "tool": found.tool,
        "version": found.version,
        "outcome": found.outcome.outcome,
        "reason": found.outcome.reason[:_MOST_REASON],
        "record": found.verified.record,
        "record_root": found.root,
        "record_size": found.signed,
        "model": found.verified.model,
        "fingerprint": found.verified.fingerprint,
        "tokens": found.tokens,
        "scored_tokens": found.scored_tokens,
        "mismatches": found.mismatches,
    }


def _short(name: str) -> str:
    return name if len(name) <= 256 else hashlib.sha256(name.encode()).hexdigest()
