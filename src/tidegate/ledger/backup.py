"""Copies of a log, and bringing one back without forgetting a charge.

A log only grows, so a copy is brought up to date by what came since, and whether a log still holds
all that a copy holds is one comparison: does it go through the copy's last entry, with that head.
Every outer half of a shared ledger keeps such a copy of all that was acknowledged to it. A log that
does not extend each of them, and each checkpoint that was signed, has forgotten something: it was
restored from an old backup, or a failover lost what had been promised. It is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.errors import LedgerError
from tidegate.ledger.budgets import Budget, Budgets
from tidegate.ledger.entries import next_head
from tidegate.ledger.errors import HeadMovedError, RolledBackError
from tidegate.ledger.lease_port import Claim, Seen, SharedStore
from tidegate.ledger.state import EMPTY, Row, State, Tip
from tidegate.ledger.store import Store
from tidegate.ledger.verify import PAGE, Broken, CannotVerify, Sound, rows_between, verify
from tidegate.transparency.note import Checkpoint

UNCAPPED: Final = Budgets(name="uncapped", total=Budget(), edges=(), principal=Budget())
"""For reading what was spent: caps decide what may be, and a copy's reader need not know them."""


def extends(log: Store, tip: Tip) -> bool:
    """Whether `log` goes through `tip`. Raises LedgerError: the log cannot be read."""
    if tip == EMPTY:
        return True
    rows = log.read(tip.size - 1, 1)
    return bool(rows) and rows[0].head == tip.head


def follow(log: Store, copy: Store) -> int:
    """Bring `copy` up to date with `log`, checking the chain; returns how many entries came.

    Raises:
        RolledBackError: the log does not extend the copy, which stays as it is.
        LedgerError: one of them cannot be read or written.
    """
    end, at = log.tip(), copy.tip()
    if not extends(log, at):
        raise _rolled_back(at)
    return _take(rows_between(log, at.size, end.size), end.size, copy).size - at.size


def _take(rows: Iterable[Row], stop: int, copy: Store) -> Tip:
    """Append `rows`, which end before number `stop`, a page at a time; the copy's tip then."""
    at = copy.tip()
    head, page = at.head, list[Row]()
    for n, row in enumerate(rows, at.size):
        head = next_head(head, row.entry)
        if head != row.head:
            raise LedgerError(f"Entry {n} of the log does not chain.", entry=n)
        page.append(row)
        if len(page) == PAGE or n == stop - 1:
            copy.append(at, page)
            at, page = Tip(n + 1, head), []
    return at


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows how far the log had come: copies of it, and signed checkpoints."""

    copies: tuple[Store, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()


def restore(backup: Store, log: Store, evidence: Evidence) -> State:
    """Write `backup` into `log`, which is empty, or is what an interrupted restore of it left.

    1. The backup keeps the rules and chains on from its first entry.
    2. It extends every checkpoint: it holds all that they witness.
    3. It extends every copy: it holds all that was acknowledged to their holders.
    4. What the log already has is the backup's beginning.

    Returns:
        The state that the restored log adds up to. Whatever was held stays held, by nobody; the
        first half that joins charges it in full.

    Raises:
        RolledBackError: 2 or 3 does not hold: charges would be forgotten. Nothing was written.
        LedgerError: 1 or 4 does not hold, there is no evidence, or a store failed.
    """
    if not evidence.copies and not evidence.checkpoints:
        raise LedgerError(
            "Nothing shows how far the log had come. Give a copy that an outer half kept, or a"
            " signed checkpoint: a backup that is too old would forget charges."
        )
    state = _sound(backup, None)
    for checkpoint in evidence.checkpoints:
        _sound(backup, checkpoint)
    for copy in evidence.copies:
        if not extends(backup, copy.tip()):
            raise _rolled_back(copy.tip())
    if not extends(backup, log.tip()):
        raise LedgerError("The ledger to restore into holds another log. Use an empty table.")
    follow(backup, log)
    return state


def _sound(log: Store, trusted: Checkpoint | None) -> State:
    match verify(log, UNCAPPED, trusted=trusted):
        case Sound(state, _):
            return state
        case Broken(entry, reason) if trusted is not None:
            raise RolledBackError(
                f"{reason}: charges would be forgotten. Find a newer backup; every outer half"
                " keeps a copy.",
                entry=entry,
            )
        case Broken(entry, reason):
            raise LedgerError(f"The backup is broken: {reason}", entry=entry)
        case CannotVerify(reason):
            raise LedgerError(f"The backup cannot be read: {reason}")


def _rolled_back(tip: Tip) -> RolledBackError:
    return RolledBackError(
        f"The log does not go through entry {tip.size - 1} as it was acknowledged: charges would be"
        " forgotten. Find a newer one, or `tidegate ledger reconcile`.",
        entry=tip.size - 1,
    )


class CopyingStore:
    """A `SharedStore` whose acknowledged entries are also kept in `copy`, beside the holder.

    An append returns once both have it, so that what is drawn on here is known here, whatever
    becomes of the database. Raises LedgerError, the write being in doubt, if the copy cannot be
    written.
    """

    def __init__(self, store: SharedStore, copy: Store) -> None:
        self._store = store
        self._copy = copy
        self._read: dict[int, Row] = {}
        """Rows read a moment ago that the copy lacks, by number; some may be gone since."""

    def tip(self) -> Tip:
        return self._store.tip()

    def read(self, start: int, limit: int) -> Sequence[Row]:
        rows = self._store.read(start, limit)
        if len(self._read) < PAGE:
            first = self._copy.tip().size
            self._read |= {n: row for n, row in enumerate(rows, start) if n >= first}
        return rows

    def append(self, expected: Tip, rows: Sequence[Row]) -> None:
        self._store.append(expected, rows)
        try:
            at = self._copy.tip()
            if at.size < expected.size:
                at = _take(self._between(at, expected), expected.size, self._copy)
            if at != expected:
                raise _rolled_back(at)
            self._copy.append(at, rows)
        except HeadMovedError as error:
            raise LedgerError("Somebody else writes to this half's copy of the ledger.") from error
        self._read = {}

    def _between(self, at: Tip, expected: Tip) -> Iterable[Row]:
        """What the copy lacks below an entry that is acknowledged, and so is acknowledged too."""
        numbers, head = range(at.size, expected.size), at.head
        if all(n in self._read for n in numbers):
            rows = [self._read[n] for n in numbers]
            for row in rows:
                head = next_head(head, row.entry)
            if head == expected.head:
                return rows
        return rows_between(self._store, at.size, expected.size)

    def join(self) -> int:
        return self._store.join()

    def beat(self, *, hungry: bool) -> Sequence[Seen]:
        return self._store.beat(hungry=hungry)

    def holders(self) -> Sequence[Seen]:
        return self._store.holders()

    def claims(self) -> Sequence[Claim]:
        return self._store.claims()

    def fence_off(self, seen: Seen) -> bool:
        return self._store.fence_off(seen)

    def look_around(self) -> None:
        self._store.look_around()
