"""Entries of the log: what they say, and the one byte string that says it (`spec/ledger.md`)."""

from __future__ import annotations

import hashlib
import re
from typing import TypeAlias

import msgspec

from tidegate.errors import LedgerError
from tidegate.ledger.budgets import Budgets, Name, Whole
from tidegate.ledger.errors import InvalidEntryError
from tidegate.units import Bits

CLOSE_BITS = Bits(64)
"""Charged for each close of the link by the inner half (ADR 0001, rule 8)."""

OWN_PRINCIPAL = "link"
"""Who pays for what no stream can be charged with; the inner half's only account."""

GENESIS = hashlib.sha256(b"tidegate ledger v1").digest()
"""The chain's head before the first entry."""


class _Command(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    pass


class Open(_Command, frozen=True, tag="open"):
    """A writer opened the ledger, with the budgets it enforces."""

    budgets: Budgets


class Reserve(_Command, frozen=True, tag="reserve"):
    """Hold `bits`; the entry's number names the reservation."""

    principal: Name
    edge: Name
    bits: Whole


class Extend(_Command, frozen=True, tag="extend"):
    """Hold `bits` more under a reservation."""

    reservation: Whole
    bits: Whole


class Commit(_Command, frozen=True, tag="commit"):
    """Of what was held, `bits` crossed; the rest is free again."""

    reservation: Whole
    bits: Whole


class Release(_Command, frozen=True, tag="release"):
    """Nothing crossed; what was held is free again."""

    reservation: Whole


class Recover(_Command, frozen=True, tag="recover"):
    """Somebody decided that of a dead writer's reservation `bits` are taken to have crossed."""

    reservation: Whole
    bits: Whole
    reason: Name


class Charge(_Command, frozen=True, tag="charge"):
    """An incident cost `bits`, whatever the budgets say."""

    principal: Name
    edge: Name
    bits: Whole
    reason: Name


class TopUp(_Command, frozen=True, tag="top_up"):
    """Somebody allowed `bits` more on one account."""

    scope: Name
    bits: Whole
    reason: Name


Command: TypeAlias = Open | Reserve | Extend | Commit | Release | Recover | Charge | TopUp


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the log.

    `n` is its number from 0, `time` ledger milliseconds (never goes back), `wall` milliseconds
    since the Unix epoch by the host's clock: for people, never part of a decision.
    """

    n: Whole
    time: Whole
    wall: Whole
    does: Command


_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f"\\]')


def plain(reason: str) -> str:
    """`reason` as an entry can hold it: no wording may keep an incident from being charged."""
    text = reason.encode("utf-8", "replace").decode()
    return _FORBIDDEN.sub("'", text)[:256] or "not stated"


_DECODER = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The canonical bytes of `entry`.

    Raises:
        LedgerError: a field is of the wrong type, out of range, or holds a forbidden character.
    """
    try:
        raw = msgspec.json.encode(entry)
        _DECODER.decode(raw)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise LedgerError(f"This cannot be recorded: {error}") from error
    return raw


def parse(raw: bytes, n: int) -> Entry:
    """Read entry `n`.

    Raises:
        InvalidEntryError: malformed, not canonical, or the entry gives itself another number.
    """
    try:
        entry = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEntryError(f"Entry {n} cannot be read: {error}", entry=n) from error
    if msgspec.json.encode(entry) != raw:
        raise InvalidEntryError(f"Entry {n} is not in canonical form", entry=n)
    if entry.n != n:
        raise InvalidEntryError(f"Entry {n} calls itself {entry.n}", entry=n)
    return entry


def next_head(head: bytes, raw: bytes) -> bytes:
    """The chain's head once `raw` follows `head`: SHA-256(0x02 || head || raw)."""
    return hashlib.sha256(b"\x02" + head + raw).digest()
