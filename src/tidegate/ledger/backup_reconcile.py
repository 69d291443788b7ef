"""Charging what a lost end of a log had charged: for failovers that forgot, and split brains.

A copy that the log does not extend shows a *lost branch*: entries after the fork that were
acknowledged and are gone. What they charged and held is charged anew on the log that goes on, to
the same principals and edges, at what they could have let out at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.ledger.backup import extends
from tidegate.ledger.book import Ledger
from tidegate.ledger.entries import Charge, Commit, Extend, Recover, Release, Reserve, parse
from tidegate.ledger.state import EMPTY, Tip
from tidegate.ledger.store import Store
from tidegate.ledger.verify import rows_between


@dataclass(frozen=True, slots=True)
class LostBranch:
    """A copy's entries from `fork` on, and what they let out: (principal, edge, bits)."""

    fork: int
    tip: Tip
    bits: tuple[tuple[str, str, int], ...]

    @property
    def reason(self) -> str:
        """What the log gives as the reason; the same for the same branch, which is charged once."""
        return f"lost branch {self.tip.head.hex()[:32]} after entry {self.fork}"


def lost_branches(log: Store, copies: Sequence[Store]) -> tuple[LostBranch, ...]:
    """What of `copies` is not in `log`, each branch once. Raises LedgerError.

    Of copies that kept one branch for different lengths the longest counts.
    """
    lost = [copy for copy in copies if not extends(log, copy.tip())]
    longest: list[Store] = []
    for copy in sorted(lost, key=lambda copy: -copy.tip().size):
        if not any(extends(other, copy.tip()) for other in longest):
            longest.append(copy)
    return tuple(_branch(log, copy) for copy in longest)


def _branch(log: Store, copy: Store) -> LostBranch:
    """What was let out after the fork, at most.

    Counted are charges, what was committed under reservations of the branch, what is still held
    under them, and extensions of older reservations: those themselves are in the log, where they
    are held or settled still.
    """
    tip, fork = copy.tip(), _fork(log, copy)
    counted: Counter[tuple[str, str]] = Counter()
    held: dict[int, tuple[str, str, int]] = {}
    older = _opened(copy, fork)
    for n, row in enumerate(rows_between(copy, fork, tip.size), fork):
        match parse(row.entry, n).does:
            case Charge(principal=principal, edge=edge, bits=bits):
                counted[principal, edge] += bits
            case Reserve(principal=principal, edge=edge, bits=bits):
                held[n] = principal, edge, bits
            case Extend(reservation=old, bits=bits) if old in held:
                held[old] = *held[old][:2], held[old][2] + bits
            case Extend(reservation=old, bits=bits):
                counted[older[old]] += bits
            case Commit(reservation=old, bits=bits) | Recover(reservation=old, bits=bits):
                if old in held:
                    counted[held.pop(old)[:2]] += bits
            case Release(reservation=old):
                held.pop(old, None)
            case _:
                pass
    for principal, edge, bits in held.values():
        counted[principal, edge] += bits
    return LostBranch(fork, tip, tuple((*key, bits) for key, bits in sorted(counted.items())))


def charge_branch(ledger: Ledger, log: Store, branch: LostBranch) -> bool:
    """Charge what `branch` let out, unless the log says that it was; whether it was charged now.

    Raises:
        LedgerError: an edge is not configured any more, or the store failed.
    """
    for n, row in enumerate(rows_between(log, branch.fork, log.tip().size), branch.fork):
        does = parse(row.entry, n).does
        if isinstance(does, Charge) and does.reason == branch.reason:
            return False
    charges = [
        Charge(principal, edge, bits, branch.reason)
        for principal, edge, bits in branch.bits
        if bits
    ]
    if charges:
        ledger.record(*charges)
    return bool(charges)


def _tip_at(log: Store, size: int) -> Tip:
    return Tip(size, log.read(size - 1, 1)[0].head) if size else EMPTY


def _fork(log: Store, copy: Store) -> int:
    """How many entries both have."""
    low, high = 0, copy.tip().size - 1
    while low < high:
        middle = (low + high + 1) // 2
        if extends(log, _tip_at(copy, middle)):
            low = middle
        else:
            high = middle - 1
    return low


def _opened(log: Store, size: int) -> dict[int, tuple[str, str]]:
    """Whose each reservation is that the first `size` entries opened."""
    opened: dict[int, tuple[str, str]] = {}
    for n, row in enumerate(rows_between(log, 0, size)):
        does = parse(row.entry, n).does
        if isinstance(does, Reserve):
            opened[n] = does.principal, does.edge
    return opened
