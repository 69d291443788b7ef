"""JSON that came as evidence, decoded into a closed grammar. Pure."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from tidegate.attest.errors import EvidenceError

MOST_BYTES: Final = 1 << 23
"""Of a file; event logs are the longest part of any, and stay below a megabyte."""

_Shape = TypeVar("_Shape")


def decoded(data: bytes, shape: type[_Shape], kind: str) -> _Shape:
    """The value, if `data` is JSON of that shape and nothing more. Raises `EvidenceError`."""
    if len(data) > MOST_BYTES:
        raise EvidenceError(kind, "file", f"is longer than {MOST_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise EvidenceError(kind, "file", f"is not the JSON that belongs here: {error}") from error
