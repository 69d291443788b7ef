"""What of an answer only its verifier may read: the seed, the prompt, and what its user wrote.

Packed as MessagePack. Whether it is sealed is decided by whoever writes: `Seal` is handed in, so
that nothing here draws randomness.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from tidegate.errors import RecordError
from tidegate.record.entries import MAX_PRIVATE, MAX_TOKENS, Begin, TokenId
from tidegate.sampling.seed import SEED_BYTES

_INFO: Final = b"tidegate record v1 private"


class Private(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The seed in full, the prompt, the stop strings, and the user's own seed.

    The prompt is token ids: all turns and tools, as the template put them.
    """

    seed: Annotated[bytes, Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
    prompt: Annotated[tuple[TokenId, ...], Meta(min_length=1, max_length=MAX_TOKENS)]
    stop: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=16)]
    user_seed: int | None


class Seal(Protocol):
    """Hides what is private from all but one verifier."""

    @property
    def key(self) -> str:
        """The verifier key's id; empty where nothing is hidden."""
        ...

    def seal(self, plain: bytes, info: bytes) -> bytes:
        """`plain`, readable only with the verifier's key and the same `info`."""
        ...


class Clear:
    """A `Seal` that hides nothing: for a record that only its verifier can read anyway."""

    key = ""

    def seal(self, plain: bytes, info: bytes) -> bytes:
        return plain


_DECODER = msgspec.msgpack.Decoder(Private)


def pack(private: Private) -> bytes:
    """The bytes of `private`.

    Raises:
        RecordError: out of range, or too large.
    """
    try:
        raw = msgspec.msgpack.encode(private)
        _DECODER.decode(raw)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise RecordError("A prompt, seed or stop string cannot be recorded.") from error
    if len(raw) > MAX_PRIVATE - 1024:
        raise RecordError("A prompt is too large to be recorded.", bytes=len(raw))
    return raw


def unpack(raw: bytes) -> Private:
    """Read what `pack` wrote.

    Raises:
        RecordError: malformed.
    """
    try:
        return _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError("What is private of an answer cannot be read.") from error


def binding(request: str, choice: int, attempt: int, seed: str) -> bytes:
    """What sealed bytes are bound to, so that they cannot be moved to another answer."""
    name = request.encode()
    fixed = struct.pack("<QQQ", len(name), choice, attempt)
    return _INFO + fixed + name + bytes.fromhex(seed)


def binding_of(begin: Begin) -> bytes:
    """`binding` of a recorded answer."""
    return binding(begin.request, begin.choice, begin.attempt, begin.seed)
