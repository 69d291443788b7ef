"""What the outer half says to the inner half: six messages in length-prefixed MessagePack.

Inward traffic is free, so everything that can be said inwards is; see `spec/wire.md`. Parsing is
strict: an unknown tag or field, a value out of range or a message over the size limit is a
`ProtocolViolationError`. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tidegate.errors import ProtocolViolationError
from tidegate.sampling.params import InvalidParamsError, SamplingParams

PROTOCOL_VERSION: Final = 1
MAX_MESSAGE: Final = 1 << 22
"""Bytes in one message, prefix excluded: room for a 131,072-token prompt six times over."""
MAX_SLOTS: Final = 1024
MAX_PROMPT: Final = 131_072
MAX_FRAME: Final = 4096
"""Bytes in one upload frame."""
PREFIX: Final = 4
"""Bytes of the length prefix: unsigned, big-endian."""

Counter = Annotated[int, Meta(ge=0, le=(1 << 48) - 1)]
Slot = Annotated[int, Meta(ge=0, lt=MAX_SLOTS)]
TokenId = Annotated[int, Meta(ge=0, lt=1 << 24)]
Name = Annotated[str, Meta(max_length=256)]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Secret = Annotated[bytes, Meta(min_length=16, max_length=128)]
StopString = Annotated[str, Meta(min_length=1, max_length=256)]


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Params(_Part, frozen=True):
    """`SamplingParams` on the wire: the same fields in the same order, with the same ranges."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: Annotated[tuple[tuple[TokenId, float], ...], Meta(max_length=4096)]

    def __post_init__(self) -> None:
        try:
            self.value()
        except InvalidParamsError as error:
            raise ValueError(error.message) from error

    @classmethod
    def of(cls, params: SamplingParams) -> Params:
        """The wire form of `params`."""
        return cls(
            params.temperature,
            params.top_k,
            params.top_p,
            params.min_p,
            params.presence_penalty,
            params.frequency_penalty,
            params.repetition_penalty,
            params.logit_bias,
        )

    def value(self) -> SamplingParams:
        """The parameters both halves compute with."""
        return SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
        )


class Join(_Part, frozen=True):
    """A stream begins in `slot`. `owner` is a digest of the principal, never the name.

    `reasoning` is the id, minted outside, under which reasoning is to be kept inside (None: the
    stream does not reason); `recall` names earlier reasoning of the same owner to put before the
    answer.
    """

    slot: Slot
    prompt: Annotated[tuple[TokenId, ...], Meta(min_length=1, max_length=MAX_PROMPT)]
    seed: Bytes32
    params: Params
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_PROMPT)]
    stop: Annotated[tuple[StopString, ...], Meta(max_length=16)]
    ignore_eos: bool
    candidates: Annotated[int, Meta(ge=1, le=64)]
    owner: Bytes16
    reasoning: Bytes16 | None
    recall: Bytes16 | None


class Inward(_Part, frozen=True, tag_field="kind"):
    """Any message from the outer half."""


class Hello(Inward, frozen=True, tag=1):
    """Opens a session. Both halves must hold the same tokenizer, weak model and coder.

    `link` names the session for a later `Resume`; `secret` authenticates the outer half; `eos` are
    the token ids that end a stream; `echo` says that the outer half will send an `Echo` a step.
    """

    version: Counter
    link: Bytes16
    secret: Secret
    tokenizer: Name
    weak: Name
    coder: Name
    eos: Annotated[tuple[TokenId, ...], Meta(max_length=64)]
    echo: bool


class Step(Inward, frozen=True, tag=2):
    """Grants decode step `number`. Cancels are applied first, then joins, then the step.

    The outer half will never resume before step `settled`, so older state can be dropped.
    """

    number: Counter
    settled: Counter
    cancels: Annotated[tuple[Slot, ...], Meta(max_length=MAX_SLOTS)] = ()
    joins: Annotated[tuple[Join, ...], Meta(max_length=MAX_SLOTS)] = ()

    def __post_init__(self) -> None:
        if self.settled > self.number:
            raise ValueError("a step cannot be settled before it is granted")
        _require_ascending(self.cancels, "cancelled slots")
        _require_ascending([join.slot for join in self.joins], "joined slots")


class Pull(Inward, frozen=True, tag=3):
    """Asks for exactly `size` bytes, to be sent once every step granted so far is done."""

    size: Annotated[int, Meta(ge=1, le=MAX_FRAME)]


class Echo(Inward, frozen=True, tag=4):
    """`digest` is the hash of the integer tables the outer half used at step `number`."""

    number: Counter
    digest: Bytes16


class Resume(Inward, frozen=True, tag=5):
    """After `Hello` with a known `link`: restart coder and weak model at step `number`.

    The symbols from there on are sent again, those of the first `exact_steps` steps under the
    exact fallback tables.
    """

    number: Counter
    exact_steps: Annotated[int, Meta(ge=1, le=1 << 20)]


class Bye(Inward, frozen=True, tag=6):
    """The session is over; nothing more will be pulled."""


Message = Hello | Step | Pull | Echo | Resume | Bye

_DECODER: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
_ENCODER: Final = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """`message` as it goes on the wire, prefix included.

    Raises:
        ProtocolViolationError: the receiver would refuse it.
    """
    body = _ENCODER.encode(message)
    decode(body)
    return len(body).to_bytes(PREFIX, "big") + body


def decode(body: bytes | bytearray | memoryview) -> Message:
    """The message in `body` (without its prefix).

    Raises:
        ProtocolViolationError: it is too long, malformed, or a value is out of range.
    """
    if len(body) > MAX_MESSAGE:
        raise ProtocolViolationError("A message is longer than the limit.", size=len(body))
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The parser's own text may quote the message, which may hold a prompt.
        raise ProtocolViolationError("A message does not parse.") from error


def _require_ascending(numbers: Sequence[int], what: str) -> None:
    if any(left >= right for left, right in pairwise(numbers)):
        raise ValueError(f"{what} must be ascending and distinct")
