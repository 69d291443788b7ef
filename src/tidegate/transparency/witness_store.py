"""What a witness remembers, and the port behind which it does.

The contract is that of `store`: durable on return, compare-and-swap, all or nothing, honest about
doubt. Who can modify it makes the witness cosign a second history: so `Seen.head` chains every
checkpoint ever kept, and a copy of the last link stands in an anchor, outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Seen:
    """What was cosigned last of one log: the note with the log's signature, and when.

    `time` is seconds since the Unix epoch, and never less than that of any cosignature before it.
    """

    origin: str
    note: str
    time: int


class Mark(NamedTuple):
    """How many checkpoints a witness kept in all, and the hash that chains them."""

    number: int
    head: bytes


START = Mark(0, bytes(32))


def next_mark(mark: Mark, seen: Seen) -> Mark:
    """The mark once `seen` is kept: SHA-256(0x03 || head || time, 8 bytes || note)."""
    chained = b"\x03" + mark.head + seen.time.to_bytes(8, "big") + seen.note.encode()
    return Mark(mark.number + 1, hashlib.sha256(chained).digest())


class WitnessStore(Protocol):
    """One witness's memory."""

    def mark(self) -> Mark:
        """How far it got; `START` for a new one. Raises WitnessError."""
        ...

    def before(self) -> Mark:
        """The mark before the last checkpoint was kept. Raises WitnessError."""
        ...

    def seen(self, origin: str) -> Seen | None:
        """What was kept last of this log. Raises WitnessError."""
        ...

    def all(self) -> Sequence[Seen]:
        """What was kept last of every log, by origin. Raises WitnessError."""
        ...

    def keep(self, expected: Mark, seen: Seen) -> None:
        """Keep `seen` in place of what was kept of its log.

        Raises:
            MovedError: the mark is no longer `expected`; nothing was written.
            WitnessError: the medium failed; it may or may not have been written.
        """
        ...

    def accuse(self, origin: str, note: str) -> None:
        """Put away a note that convicts its log, beside what is kept of it. Raises WitnessError."""
        ...

    def accusations(self) -> Sequence[tuple[str, str, str]]:
        """Origin, the note kept then, and the note that contradicts it. Raises WitnessError."""
        ...
