"""What rank 0 and another rank say to each other: MessagePack, each message after its length.

Inside the inner zone only: hidden states and token ids are in the clear. Nothing that arrives is
trusted to be well-formed; who may connect is told by the secret in the greeting.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from tidegate.errors import ProtocolViolationError

VERSION: Final = 1
PREFIX: Final = 8
MAX_MESSAGE: Final = 1 << 28
"""256 MiB: 256 rows of the widest model are 64 MiB."""

Id = Annotated[int, Meta(ge=0, lt=1 << 48)]
Size = Annotated[int, Meta(ge=0, lt=1 << 31)]
Part = tuple[Id, tuple[Size, ...]]


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag=True):
    pass


class Greet(_Message, frozen=True):
    """First of all; what was there before is forgotten. `root` names the model."""

    version: int
    secret: bytes
    root: str
    rank: int
    ranks: int


class Start(_Message, frozen=True):
    """Begin sequences."""

    parts: tuple[Part, ...]


class Run(_Message, frozen=True):
    """Append `parts`; `last` are the rows that end a sequence; `hidden` are float32 rows."""

    parts: tuple[Part, ...]
    last: tuple[Size, ...]
    hidden: bytes


class Cut(_Message, frozen=True):
    """Shorten sequences, each to a length."""

    lengths: tuple[tuple[Id, Size], ...]


class Fork(_Message, frozen=True):
    """Copy a sequence."""

    source: Id
    new: Id


class Drop(_Message, frozen=True):
    """Forget a sequence."""

    sequence: Id


Call = Greet | Start | Run | Cut | Fork | Drop


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """To every call: `known` of `Start`, `array` of `Run`; `error` where it could not be done."""

    known: tuple[int, ...] = ()
    array: bytes = b""
    error: str = ""


def encode(message: Call | Answer) -> bytes:
    """The message with its length before it."""
    raw = msgspec.msgpack.encode(message)
    return len(raw).to_bytes(PREFIX, "big") + raw


def length_of(prefix: bytes) -> int:
    """Raises ProtocolViolationError for a message that would be too long."""
    size = int.from_bytes(prefix, "big")
    if size > MAX_MESSAGE:
        raise ProtocolViolationError("A rank's message is longer than the limit.", size=size)
    return size


def decode_call(raw: bytes) -> Call:
    """Raises ProtocolViolationError."""
    try:
        call: Call = msgspec.msgpack.decode(raw, type=Call)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolViolationError("A call to a rank is malformed.") from error
    return call


def decode_answer(raw: bytes) -> Answer:
    """Raises ProtocolViolationError."""
    try:
        return msgspec.msgpack.decode(raw, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolViolationError("A rank's answer is malformed.") from error


def rows_of(raw: bytes, columns: int) -> NDArray[np.float32]:
    """float32 rows of so many columns. Raises ProtocolViolationError for a part of a row."""
    if not columns or len(raw) % (4 * columns):
        raise ProtocolViolationError("A rank's array has not whole rows.")
    rows: NDArray[np.float32] = np.frombuffer(raw, "<f4").reshape(-1, columns)
    return rows


def bytes_of(array: NDArray[np.float32]) -> bytes:
    """The other way round."""
    return np.ascontiguousarray(array, "<f4").tobytes()
