"""Entries of the record: what they say, and the one byte string that says it (`spec/record.md`).

Numbers are whole and text is free of escapes, so that every entry has one spelling. Sampling
parameters are the bytes that the seed is bound to (`SamplingParams.canonical`), in hexadecimal;
what a user wrote (prompt, stop strings) is in `Begin.private`, never in the clear text of an entry.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from tidegate.errors import RecordError
from tidegate.sampling.params import InvalidParamsError, SamplingParams

MAX_ENTRY: Final = 2 << 20
"""Bytes in one entry: a prompt of 131,072 tokens in base64 takes at most 0.9 MB."""
MAX_PRIVATE: Final = 1 << 20
MAX_TOKENS: Final = 131_072
"""Tokens of one answer, as on the link (`spec/wire.md`)."""

# A bare `$` would let a newline follow.
_PLAIN = r'[^\x00-\x1f\x7f"\\]'
_END = r"(?![\s\S])"

Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=256, pattern=f"^{_PLAIN}+{_END}")]
Label = Annotated[str, Meta(max_length=64, pattern=f"^[a-z0-9_]*{_END}")]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}" + _END)]
MaybeHash = Annotated[str, Meta(pattern="^([0-9a-f]{64})?" + _END)]
KeyId = Annotated[str, Meta(pattern="^([0-9a-f]{16})?" + _END)]
TokenId = Annotated[int, Meta(ge=0, lt=1 << 24)]
Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Stack(_Strict, frozen=True):
    """What answers: fingerprints that a replay must match, and the numerics it should.

    Fingerprints are hex SHA-256; `template` is empty for a model without one, `weak` where nothing
    predicts. `engine` and `numerics` are for people (engine, dtype, library versions).
    """

    model: Hash
    tokenizer: Hash
    template: MaybeHash
    weak: Annotated[str, Meta(max_length=256, pattern=f"^{_PLAIN}*{_END}")]
    vocabulary: Annotated[int, Meta(ge=1, le=1 << 24)]
    engine: Name
    numerics: Name


class Reason(StrEnum):
    """Why an answer ended. The last three leave an answer cut off midway."""

    STOP = "stop"
    LENGTH = "length"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CUT = "cut"


class _Does(_Strict, frozen=True, tag_field="kind"):
    pass


class Open(_Does, frozen=True, tag="open"):
    """A writer opened the record; what follows was answered by `stack`."""

    stack: Stack


class Begin(_Does, frozen=True, tag="begin"):
    """An answer begins, before its job goes inwards. The entry's number names it.

    `seed` is `sampling.seed.commitment` of its seed. `private` packs `record.private.Private`: as
    it is where `key` is empty, else sealed to the verifier key of that id. `recalls` says that
    reasoning kept inside from an earlier answer was put before this one, `reasons` that this one
    reasons.
    """

    request: Name
    choice: Whole
    attempt: Whole
    principal: Name
    lora: MaybeHash
    params: Annotated[str, Meta(pattern="^([0-9a-f]{2})+" + _END, max_length=1 << 18)]
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
    ignore_eos: bool
    candidates: Annotated[int, Meta(ge=1, le=64)]
    reasons: bool
    recalls: bool
    seed: Hash
    prompt_tokens: Count
    key: KeyId
    private: Annotated[bytes, Meta(max_length=MAX_PRIVATE)]


class Prefill(_Does, frozen=True, tag="prefill"):
    """Where an answer ran: the link's session, its slot, and the step at which it joined.

    `candidate` is the draft that won. `cached` prompt tokens came from a prefix cache; `chunks` are
    the sizes in which the rest was read, none where it was read at once.
    """

    response: Whole
    session: Annotated[str, Meta(pattern="^[0-9a-f]{32}" + _END)]
    slot: Whole
    step: Whole
    candidate: Annotated[int, Meta(ge=0, lt=64)]
    cached: Count
    chunks: Annotated[tuple[Count, ...], Meta(max_length=4096)]


class Tokens(_Does, frozen=True, tag="tokens"):
    """Tokens `start` and on of an answer, as sampled.

    The first was said at `step`, if that is known, and the others one a step after it.
    """

    response: Whole
    start: Count
    step: Whole | None
    ids: Annotated[tuple[TokenId, ...], Meta(min_length=1, max_length=MAX_TOKENS)]


class End(_Does, frozen=True, tag="end"):
    """An answer ended after `tokens` tokens, which cost `bits` on the link.

    `code` is the error's where `reason` is `failed`, else empty. `cut` is written by the next
    writer for answers whose own writer died.
    """

    response: Whole
    reason: Reason
    code: Label
    tokens: Count
    bits: Whole


class Gap(_Does, frozen=True, tag="gap"):
    """The writer could not write for a while, and was told to serve all the same.

    `tokens` left unrecorded, some of them of `responses` answers that are not in the record at all.
    """

    responses: Whole
    tokens: Whole


Does: TypeAlias = Open | Begin | Prefill | Tokens | End | Gap


class Entry(_Strict, frozen=True):
    """One entry: its number from 0, and its time.

    `time` is in milliseconds and never goes back: the wall clock when the writer opened, moved on
    by its monotonic clock.
    """

    n: Whole
    time: Whole
    does: Does


_DECODER = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The canonical bytes of `entry`.

    Raises:
        RecordError: a field is of the wrong type or out of range, or the entry is too large.
    """
    try:
        raw = msgspec.json.encode(entry)
        _DECODER.decode(raw)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise RecordError(f"This cannot be recorded: {error}") from error
    if len(raw) > MAX_ENTRY:
        raise RecordError("This cannot be recorded: the entry is too large.", bytes=len(raw))
    return raw


def parse(raw: bytes) -> Entry:
    """Read an entry.

    Raises:
        RecordError: malformed, or not in canonical form.
    """
    try:
        entry = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"The entry cannot be read: {error}") from error
    if msgspec.json.encode(entry) != raw:
        raise RecordError("The entry is not in canonical form.")
    return entry


def params_of(begin: Begin) -> SamplingParams:
    """The sampling parameters of an answer.

    Raises:
        RecordError: the bytes are not those of any parameters.
    """
    try:
        return SamplingParams.from_canonical(bytes.fromhex(begin.params))
    except InvalidParamsError as error:
        raise RecordError(error.message, parameter="params") from error
