"""Recompute a log: to start from it, to catch up with it, and to check it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tidegate.errors import LedgerError
from tidegate.ledger.budgets import Budgets
from tidegate.ledger.entries import parse
from tidegate.ledger.errors import InvalidEntryError, RolledBackError
from tidegate.ledger.state import Fold, Row, State
from tidegate.ledger.store import Store
from tidegate.transparency import tree
from tidegate.transparency.note import Checkpoint

PAGE = 1_000
"""Rows read at once: bounds memory while a long log is replayed."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Every entry keeps the rules and chains on. `state` is what they add up to.

    `first_over` is the first entry that the budgets given would have refused: None unless budgets
    changed, or somebody wrote around them.
    """

    state: State
    first_over: int | None


@dataclass(frozen=True, slots=True)
class Broken:
    """The log is not what an honest writer leaves; `entry` is the first bad one, if it is one."""

    entry: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class CannotVerify:
    """The store could not be read; nothing is known, and nothing may be assumed."""

    reason: str


Verdict: TypeAlias = Sound | Broken | CannotVerify


def rows_between(store: Store, start: int, stop: int) -> Iterator[Row]:
    """Rows `start` to `stop - 1`, a page at a time.

    Raises:
        InvalidEntryError: a row is missing.
        LedgerError: the store cannot be read.
    """
    while start < stop:
        rows = store.read(start, min(PAGE, stop - start))
        if not rows:
            raise InvalidEntryError(f"Entry {start} is missing", entry=start)
        start += len(rows)
        yield from rows


def catch_up(store: Store, state: State) -> State:
    """The state at the store's tip, from `state` and later rows: start, recovery and refresh.

    Raises:
        LedgerError: the store cannot be read, or does not extend `state`.
        InvalidEntryError: a new row breaks a rule or does not chain.
    """
    tip = store.tip()
    if tip == state.tip:
        return state
    fold = Fold(state)
    for row in rows_between(store, fold.size, tip.size):
        _take(fold, row)
    if (fold.size, fold.head) != tip:
        raise RolledBackError("The ledger's store was rewritten or rolled back.", entry=tip.size)
    return fold.state()


def verify(
    store: Store, budgets: Budgets, *, trusted: Checkpoint | None = None, live: State | None = None
) -> Verdict:
    """Check a log from its first entry to its end, or to that of `live`, a running ledger's state.

    1. Every entry is canonical, numbered, in order of time, and keeps the rules of reservations.
    2. The head stored with each entry is the chain's.
    3. The log extends `trusted`, a checkpoint kept elsewhere.
    4. The balances are those of `live`.

    Without a checkpoint from elsewhere nobody can tell a log that was rewritten from its first
    altered entry to its end.
    """
    try:
        size = store.tip().size if live is None else live.tip.size
        if trusted is not None and size < trusted.size:
            return Broken(size, f"The log ends before its checkpoint of {trusted.size} entries")
        fold, first_over = Fold(State(budgets)), None
        differs = _differs(fold, trusted)
        for row in rows_between(store, 0, size):
            entry = parse(row.entry, fold.size)
            if first_over is None and fold.refusal(entry.does, entry.time) is not None:
                first_over = fold.size
            _take(fold, row)
            differs = differs or _differs(fold, trusted)
    except InvalidEntryError as error:
        return Broken(error.entry, error.message)
    except LedgerError as error:
        return CannotVerify(error.message)
    if differs and trusted is not None:
        return Broken(None, f"The log differs from its checkpoint of {trusted.size} entries")
    state = fold.state()
    if live is not None and state != live:
        return Broken(None, "The running ledger's balances are not those of its log")
    return Sound(state, first_over)


def _differs(fold: Fold, trusted: Checkpoint | None) -> bool:
    return (
        trusted is not None
        and fold.size == trusted.size
        and tree.frontier_root(fold.frontier) != trusted.root
    )


def _take(fold: Fold, row: Row) -> None:
    n = fold.size
    fold.take(row.entry)
    if fold.head != row.head:
        raise InvalidEntryError(f"Entry {n} does not chain to the head stored with it", entry=n)


def leaf_hashes(store: Store, size: int) -> tuple[bytes, ...]:
    """The first `size` entries' leaf hashes, from which `tree` makes its proofs.

    Raises:
        LedgerError: the store cannot be read, or holds fewer entries.
    """
    return tuple(tree.leaf_hash(row.entry) for row in rows_between(store, 0, size))
