"""A segment's lines: an entry with the chain's head after it, a checkpoint, or the opening mark.

M <mark>            the state before this segment's first entry, so that no writer reads further
E <head> <entry>    the head in hexadecimal, the entry's canonical bytes
C <note>            a signed checkpoint of the entries so far, in base64
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from tidegate.errors import RecordError
from tidegate.record.entries import MAX_ENTRY, Count, Hash, Stack, Whole
from tidegate.verify.record_store import READ, Source

MAX_LINE: Final = MAX_ENTRY + 128

GENESIS: Final = hashlib.sha256(b"tidegate record v1").digest()
"""The chain's head before the first entry."""


class Live(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An answer that has begun and not ended: its number, its tokens so far, the most allowed."""

    response: Whole
    tokens: Count
    most: Count
    placed: bool


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state after `n` entries. `frontier` holds the Merkle tree's perfect subtrees."""

    n: Whole
    time: Whole
    head: Hash
    frontier: tuple[Hash, ...]
    stack: Stack | None
    live: tuple[Live, ...]


@dataclass(frozen=True, slots=True)
class EntryLine:
    """An entry's bytes and the head that is stored with it."""

    head: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class NoteLine:
    """A signed note."""

    note: str


Line: TypeAlias = EntryLine | NoteLine | Mark

_MARK = msgspec.json.Decoder(Mark)


def entry_line(head: bytes, raw: bytes) -> bytes:
    """The line of an entry."""
    return b"E " + head.hex().encode() + b" " + raw + b"\n"


def note_line(note: str) -> bytes:
    """The line of a checkpoint."""
    return b"C " + base64.b64encode(note.encode()) + b"\n"


def mark_line(mark: Mark) -> bytes:
    """The line that a segment opens with."""
    return b"M " + msgspec.json.encode(mark) + b"\n"


def parse_line(line: bytes) -> Line:
    """Read a line, without its newline.

    Raises:
        RecordError: it is none.
    """
    try:
        if line.startswith(b"E ") and line[66:67] == b" ":
            head = bytes.fromhex(line[2:66].decode("ascii"))
            if head.hex().encode() == line[2:66]:
                return EntryLine(head, line[67:])
        elif line.startswith(b"C "):
            raw = base64.b64decode(line[2:], validate=True)
            if base64.b64encode(raw) == line[2:]:
                return NoteLine(raw.decode())
        elif line.startswith(b"M "):
            mark = _MARK.decode(line[2:])
            if msgspec.json.encode(mark) == line[2:]:
                return mark
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise RecordError("A line of the record cannot be read.") from error
    raise RecordError("A line of the record cannot be read.")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes between two newlines, and where they end. `whole` is false for what lacks its newline.

    Of a line that is longer than any may be, `data` is the beginning.
    """

    data: bytes
    end: int
    whole: bool


def pieces(source: Source, segment: int, offset: int = 0) -> Iterator[Piece]:
    """The lines of a segment from `offset` on, holding `MAX_LINE` + `READ` bytes at most.

    Raises:
        RecordError: the medium cannot be read.
    """
    rest, at, long = b"", offset, False
    while data := source.read(segment, at + len(rest), READ):
        rest += data
        *lines, rest = rest.split(b"\n")
        for line in lines:
            at += len(line) + 1
            if not long:
                yield Piece(line, at, whole=True)
            long = False
        if len(rest) > MAX_LINE:
            if not long:
                yield Piece(rest[:MAX_LINE], at, whole=True)
            long, at, rest = True, at + len(rest), b""
    if rest:
        yield Piece(rest, at + len(rest), whole=False)
