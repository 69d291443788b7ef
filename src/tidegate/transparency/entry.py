"""The log's entries: what kind of thing happened, when, and a body of plain JSON. Pure.

Bytes are canonical, so that an entry has one leaf hash: JSON without spaces, keys sorted, whole
numbers and text only (`spec/log.md`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from tidegate.transparency.errors import EntryError

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"
"""What a body may hold: no floats, whose text differs between programs."""

Body: TypeAlias = Mapping[str, Json]

MAX_ENTRY_BYTES: Final = 65_535
"""Tiles give an entry's length in two bytes (C2SP tlog-tiles)."""

MAX_DEPTH: Final = 16
MAX_WHOLE: Final = 2**53 - 1
"""Larger numbers change in programs that read JSON numbers as floats (RFC 7493)."""

_KEY: Final = re.compile(r"[ !#-\[\]-~]{1,128}")


class Kind(StrEnum):
    """What an entry is about."""

    GRANT = "grant"
    """Something happened to a grant: asked, approved, refused, renewed, revoked, ended."""
    RELEASE = "release"
    """A key left the broker, sealed to an attested host."""
    UPLOAD = "upload"
    """The upload ledger stood here: its signed checkpoint."""
    VERDICT = "verdict"
    """A verifier came to this conclusion."""
    ACTION = "action"
    """Somebody did this at a console."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry.

    `time` is milliseconds since the Unix epoch by the clock of whoever appended it. `id` is empty,
    or a name under which this happened once: the log takes no second entry with it.
    """

    kind: Kind
    time: Annotated[int, msgspec.Meta(ge=0, le=MAX_WHOLE)]
    body: dict[str, Any]
    id: Annotated[str, msgspec.Meta(max_length=256)] = ""
    v: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry in its place: `raw` are the bytes whose hash is the tree's leaf `index`."""

    index: int
    raw: bytes
    entry: Entry


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The canonical bytes of `entry`.

    Raises:
        EntryError: its body holds something else than whole numbers, text, lists and objects with
            short plain keys, nests too deep, or is too large.
    """
    _check(entry.body, 0)
    try:
        raw = _ENCODER.encode(entry)
        _DECODER.decode(raw)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise EntryError(f"This cannot be logged: {error}") from error
    if len(raw) > MAX_ENTRY_BYTES:
        raise EntryError(
            f"An entry may have {MAX_ENTRY_BYTES} bytes and this has {len(raw)}: log its hash."
        )
    return raw


def parse(raw: bytes, index: int) -> Logged:
    """Read entry `index`.

    Raises:
        EntryError: malformed, not canonical, or too large.
    """
    try:
        if len(raw) > MAX_ENTRY_BYTES:
            raise EntryError("it is too large")
        entry = _DECODER.decode(raw)
        if encode(entry) != raw:
            raise EntryError("it is not in canonical form")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EntryError(f"Entry {index} cannot be read: {error}", entry=index) from error
    except EntryError as error:
        raise EntryError(f"Entry {index} cannot be read: {error}", entry=index) from error
    return Logged(index, raw, entry)


def same(body: Body, other: Body) -> bool:
    """Whether two bodies are one in canonical form."""
    return _ENCODER.encode(body) == _ENCODER.encode(other)


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise EntryError(f"A body nests at most {MAX_DEPTH} deep.")
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int):
        if abs(value) > MAX_WHOLE:
            raise EntryError("A number in a body is at most 2^53 - 1; write larger ones as text.")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str) or not _KEY.fullmatch(key):
                raise EntryError("A key in a body is 1 to 128 plain ASCII characters.")
            _check(inner, depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        for inner in value:
            _check(inner, depth + 1)
    else:
        raise EntryError(
            f"A body holds text, whole numbers, lists and objects, no {type(value).__name__}."
        )
