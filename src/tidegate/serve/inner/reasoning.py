"""Reasoning that stays inside: where it is kept, and who may read it.

Ids are minted by the outer half and come in with the job, so naming them costs no upload. A record
is bound to the principal it was made for. The store is bounded in tokens and forgets by age.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass

import structlog

from tidegate.clock import Clock
from tidegate.errors import TidegateError
from tidegate.units import Seconds

_log = structlog.get_logger(__name__)


HOUR = Seconds(3600.0)


class ReviewRefusedError(TidegateError):
    """No such record, or the credential is not one of a reviewer."""

    code = "review_refused"


@dataclass(frozen=True, slots=True)
class Thinking:
    """Where reasoning begins and ends: token ids of the delimiters, and how long it may be."""

    start: tuple[int, ...]
    end: tuple[int, ...]
    max_tokens: int = 4096


@dataclass(frozen=True, slots=True)
class _Record:
    owner: bytes
    tokens: tuple[int, ...]
    stored: Seconds


def credential_digest(credential: str) -> bytes:
    """What the configuration holds of a reviewer's credential, so that reading it gives nothing."""
    return hashlib.blake2b(credential.encode(), digest_size=32, person=b"tidegate.review").digest()


class ReasoningStore:
    """Bounded, expiring, in memory. The oldest records go first."""

    def __init__(
        self,
        clock: Clock,
        *,
        reviewers: tuple[bytes, ...] = (),
        max_tokens: int = 4_000_000,
        max_age: Seconds = HOUR,
    ) -> None:
        """`reviewers` are `credential_digest`s; `max_tokens` bounds all records together."""
        self._clock = clock
        self._reviewers = reviewers
        self._max_tokens = max_tokens
        self._max_age = max_age
        self._records: OrderedDict[bytes, _Record] = OrderedDict()
        self._held = 0

    def put(self, record_id: bytes, owner: bytes, tokens: tuple[int, ...]) -> None:
        """Keep `tokens` under an id that is not taken; a taken id keeps what it has."""
        self._expire()
        if record_id in self._records or len(tokens) > self._max_tokens:
            return
        self._records[record_id] = _Record(owner, tokens, self._clock.monotonic())
        self._held += len(tokens)
        while self._held > self._max_tokens:
            self._forget(next(iter(self._records)))

    def get(self, record_id: bytes, owner: bytes) -> tuple[int, ...] | None:
        """The tokens, or None when there is no such record of this owner."""
        self._expire()
        record = self._records.get(record_id)
        if record is None or not hmac.compare_digest(record.owner, owner):
            return None
        return record.tokens

    def review(self, record_id: bytes, credential: str) -> tuple[int, ...]:
        """The tokens, for an authorised reviewer inside the zone. Every attempt is logged.

        Raises:
            ReviewRefusedError: the credential is not a reviewer's, or there is no such record.
        """
        self._expire()
        given = credential_digest(credential)
        # Every digest is compared, so the time says nothing about which one was close.
        allowed = sum(hmac.compare_digest(given, known) for known in self._reviewers) > 0
        record = self._records.get(record_id)
        reviewer = given.hex()[:16] if allowed else None
        _log.info("reasoning_review", record=record_id.hex(), reviewer=reviewer, allowed=allowed)
        if not allowed or record is None:
            raise ReviewRefusedError("There is no such record for this reviewer.")
        return record.tokens

    def _expire(self) -> None:
        oldest_kept = self._clock.monotonic() - self._max_age
        while self._records:
            record_id, record = next(iter(self._records.items()))
            if record.stored >= oldest_kept:
                return
            self._forget(record_id)

    def _forget(self, record_id: bytes) -> None:
        self._held -= len(self._records.pop(record_id).tokens)
