"""The port through which several holders share one ledger: a `Store` that knows who holds what.

A *holder* is one outer half. Each start of it gets a **fencing token**, one more than any before
under its name; a write under an older token is refused. Every write and every `beat` adds one to
the holder's count of *beats*. Somebody who has watched that count stand still for long enough on
*his own monotonic clock* takes the holder for dead and fences it off. So no wall clock is ever
compared with another's, neither two machines' nor a machine's with the database's.

On top of the contract of `Store`, which every adapter keeps:

* **Fenced.** `append` and `beat` under a token that was fenced off write nothing and raise.
* **Together.** A reservation and the note of who holds it are stored together, or neither is.
* **A beat seals what was read before.** When `beat` returns, all that the same connection read
  before it survives whatever acknowledged writes survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tidegate.ledger.entries import Commit, Recover, Release, Reserve, parse
from tidegate.ledger.state import Row
from tidegate.ledger.store import Store


@dataclass(frozen=True, slots=True)
class Seen:
    """A holder as the store knows it. `hungry`: it was refused bits that others may have spare."""

    name: str
    fence: int
    beats: int
    hungry: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """Reservation number `n` was made by `holder` under the token `fence`."""

    n: int
    holder: str
    fence: int


class SharedStore(Store, Protocol):
    """A store joined under a holder's name."""

    def join(self) -> int:
        """A new token for this holder; those before it are fenced off. Raises LedgerError."""
        ...

    def beat(self, *, hungry: bool) -> Sequence[Seen]:
        """Say that this holder lives; every holder that ever joined, itself included.

        Raises:
            FencedError: it was fenced off.
            LedgerError: the medium failed.
        """
        ...

    def holders(self) -> Sequence[Seen]:
        """Every holder that ever joined; nobody is told that this one lives. Raises LedgerError."""
        ...

    def claims(self) -> Sequence[Claim]:
        """Who holds which reservation; a settled one is in it no more. Raises LedgerError."""
        ...

    def fence_off(self, seen: Seen) -> bool:
        """Fence off a holder, unless it has beaten since it was `seen`. Raises LedgerError."""
        ...

    def look_around(self) -> None:
        """Raises SplitBrainError where a second server takes writes for this ledger."""
        ...


def claimed(first: int, rows: Sequence[Row]) -> tuple[list[int], list[int]]:
    """The reservations that `rows`, numbered from `first`, open, and those that they settle."""
    opened: list[int] = []
    settled: list[int] = []
    for n, row in enumerate(rows, first):
        match parse(row.entry, n).does:
            case Reserve():
                opened.append(n)
            case Commit(reservation=old) | Release(reservation=old) | Recover(reservation=old):
                settled.append(old)
    return opened, settled
