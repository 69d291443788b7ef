"""Lines of a log file -> records: JSON lines, arrays, and the envelopes that clouds deliver in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from tidegate.audit.event import Broken

LARGEST_DOCUMENT: Final = 256 << 20
"""Bytes of one JSON document that are held at once; CloudTrail delivers files of some 50 MB."""

LARGEST_LINE: Final = 16 << 20

FAULTS: Final = (ValueError, OverflowError, RecursionError, msgspec.DecodeError)
"""What a record that cannot be read raises: bad UTF-8 and a reader's own refusal are ValueErrors, a
date beyond all years overflows, and brackets may nest without end."""

Record = tuple[int, bytes | Broken]
"""The line, or the record of a document, from 1, and its text or why there is none."""


class _Envelope(msgspec.Struct, gc=False):
    Records: list[msgspec.Raw] | None = None
    records: list[msgspec.Raw] | None = None


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


def json_records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Records of a file that holds JSON objects: one a line, or a document of many.

    Lines are told from a document by the first line: where it is a whole object, so is every line.
    A line may itself be an envelope; then its records are numbered on, over all envelopes.
    """
    lines = iter(lines)
    empty, first = 0, next(lines, None)
    while first is not None and not first.strip():
        empty, first = empty + 1, next(lines, None)
    if first is None:
        return
    if not _a_line(first):
        yield from _document(first, lines)
    elif _enveloped(first):
        yield from _envelopes(first, lines)
    else:
        yield from text_lines(chain([first], lines), empty + 1)


def text_lines(lines: Iterable[bytes], begin: int = 1) -> Iterator[Record]:
    """One record a line, the first of them numbered `begin`; empty lines are none."""
    for number, line in enumerate(lines, begin):
        if len(line) > 1:
            yield number, line if len(line) <= LARGEST_LINE else _too_long(line)


def _too_long(line: bytes) -> Broken:
    return Broken(f"a line of {len(line):,} bytes; at most {LARGEST_LINE:,} are read")


def _a_line(first: bytes) -> bool:
    """Whether a file whose first line this is holds an object a line. A torn object is a line too:
    a document that is written on many ends its first line with an opening or a comma."""
    told = first.strip()
    return told[:1] == b"{" and (_whole(told) or told[-1:] not in b"{[,:")


def _whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except FAULTS:
        return False
    return True


def _enveloped(line: bytes) -> bool:
    head = bytes(line[:64]).replace(b" ", b"")
    return head.startswith((b'{"Records":[', b'{"records":['))


def _opened(document: bytes) -> list[msgspec.Raw]:
    if document.lstrip()[:1] == b"[":
        return _ARRAY.decode(document)
    envelope = _ENVELOPE.decode(document)
    held = envelope.Records if envelope.Records is not None else envelope.records
    # A document without an envelope is one record, however many lines it is written on.
    return [msgspec.Raw(document)] if held is None else held


def _document(first: bytes, lines: Iterable[bytes]) -> Iterator[Record]:
    parts, size = [first], len(first)
    for line in lines:
        size += len(line)
        if size > LARGEST_DOCUMENT:
            yield (
                1,
                Broken(
                    f"a JSON document of over {LARGEST_DOCUMENT:,} bytes; write its records one "
                    "a line (jq -c '.Records[]')"
                ),
            )
            return
        parts.append(line)
    try:
        records = _opened(b"".join(parts))
    except FAULTS as error:
        yield from _torn(parts, error)
        return
    for number, raw in enumerate(records, 1):
        yield number, bytes(raw)


def _torn(parts: list[bytes], error: Exception) -> Iterator[Record]:
    """A document that is none: perhaps lines, of which the first is broken."""
    readable = [number for number, part in enumerate(parts, 1) if _whole(part)]
    if not readable:
        yield 1, Broken(f"no JSON: {error}")
        return
    for number, part in enumerate(parts, 1):
        if part.strip():
            yield number, part


def _envelopes(first: bytes, lines: Iterable[bytes]) -> Iterator[Record]:
    number = 0
    for line in chain([first], lines):
        if not line.strip():
            continue
        try:
            records = _opened(line)
        except FAULTS as error:
            number += 1
            yield number, Broken(f"an envelope that is no JSON: {error}")
            continue
        for raw in records:
            number += 1
            yield number, bytes(raw)
