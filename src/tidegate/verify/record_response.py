"""One recorded answer as a replay takes it, and how a reader puts it together entry by entry."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field
from typing import NamedTuple

from tidegate.record.entries import Begin, End, Prefill, Stack, Tokens
from tidegate.transparency.tree import leaf_hash


class Chunk(NamedTuple):
    """Tokens from `start` on, recorded at `time`; the first was said at `step` (-1: unknown)."""

    start: int
    time: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer, whole or cut off where `end` says so.

    `number` is that of the entry that began it, `last` that of its end; `began` and `ended` are
    record time in milliseconds. `digest` chains the leaf hashes of all its entries.
    """

    number: int
    last: int
    began: int
    ended: int
    stack: Stack
    begin: Begin
    prefill: Prefill | None
    tokens: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    end: End
    digest: bytes


@dataclass(slots=True)
class Building:
    """An answer that has not ended; 24 bytes a token at most, besides its beginning."""

    number: int
    began: int
    stack: Stack
    begin: Begin
    digest: bytes
    prefill: Prefill | None = None
    tokens: array[int] = field(default_factory=lambda: array("I"))
    starts: array[int] = field(default_factory=lambda: array("I"))
    times: array[int] = field(default_factory=lambda: array("Q"))
    steps: array[int] = field(default_factory=lambda: array("q"))

    @classmethod
    def of(cls, number: int, time: int, stack: Stack, begin: Begin, raw: bytes) -> Building:
        """An answer that just began with the entry `raw`."""
        return cls(number, time, stack, begin, _chain(b"", raw))

    def add(self, does: Prefill | Tokens, time: int, raw: bytes) -> None:
        """Take the next entry of the answer."""
        self.digest = _chain(self.digest, raw)
        if isinstance(does, Prefill):
            self.prefill = does
            return
        self.tokens.extend(does.ids)
        self.starts.append(does.start)
        self.times.append(time)
        self.steps.append(-1 if does.step is None else does.step)

    def finish(self, number: int, time: int, end: End, raw: bytes) -> Response:
        """The answer, ended by the entry `raw` of that number."""
        return Response(
            number=self.number,
            last=number,
            began=self.began,
            ended=time,
            stack=self.stack,
            begin=self.begin,
            prefill=self.prefill,
            tokens=tuple(self.tokens),
            chunks=tuple(map(Chunk, self.starts, self.times, self.steps)),
            end=end,
            digest=_chain(self.digest, raw),
        )


def _chain(digest: bytes, raw: bytes) -> bytes:
    """SHA-256(0x03 || digest || leaf hash); the digest before the first entry is empty."""
    return hashlib.sha256(b"\x03" + digest + leaf_hash(raw)).digest()
