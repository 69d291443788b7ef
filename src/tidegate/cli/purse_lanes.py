"""A lane's own budget beside everybody's: nothing is held unless both allow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tidegate.cli.ground import budget_of_caps, open_ledger
from tidegate.cli.purse import LedgerPurse
from tidegate.config import Caps, Lane
from tidegate.errors import BudgetExceededError, TidegateError
from tidegate.ledger import CLOSE_BITS, Budget, Budgets
from tidegate.ledger.budgets import edge_between
from tidegate.ledger.entries import OWN_PRINCIPAL
from tidegate.serve.outer.link_account import Purse
from tidegate.units import Bits

HERE: Final = "outer"
"""The end of every lane, in the names of its edges."""


class LanePurse:
    """`serve.outer.link_account.Purse` over two: the lane's, and the one that all lanes share.

    The lane's is asked first. Whatever a failure leaves held in one of them counts there until it
    is settled, so neither ever counts too little.
    """

    def __init__(self, lane: Purse, shared: Purse) -> None:
        self._lane = lane
        self._shared = shared
        self._pairs: dict[int, int] = {}
        """Reservations of the lane's purse by those of the shared one."""

    def reserve(self, principal: str, bits: Bits) -> int:
        """Hold `bits` in both. Raises BudgetExceededError: nothing was held."""
        held = self._lane.reserve(OWN_PRINCIPAL, bits)
        try:
            number = self._shared.reserve(principal, bits)
        except TidegateError:
            self._lane.release(held)
            raise
        self._pairs[number] = held
        return number

    def extend(self, reservation: int, bits: Bits) -> None:
        """Hold `bits` more in both. Raises BudgetExceededError."""
        self._lane.extend(self._pairs[reservation], bits)
        self._shared.extend(reservation, bits)

    def commit(self, reservation: int, bits: Bits) -> None:
        """Of what was held, `bits` crossed."""
        held = self._pairs.pop(reservation)
        try:
            self._shared.commit(reservation, bits)
        finally:
            self._lane.commit(held, bits)

    def release(self, reservation: int) -> None:
        """Nothing crossed."""
        self.commit(reservation, Bits(0))

    def charge(self, principal: str, bits: Bits, reason: str) -> None:
        """Charge what crossed without being held, to both."""
        try:
            self._shared.charge(principal, bits, reason)
        finally:
            self._lane.charge(OWN_PRINCIPAL, bits, reason)


@contextmanager
def lane_purses(
    path: Path, lanes: Mapping[str, Lane], shared: Purse
) -> Iterator[Mapping[str, Purse]]:
    """Each lane's purse by its name: `shared` itself where the lane has no budget of its own.

    Raises ConfigError or LedgerError.
    """
    capped = {name: lane.budget for name, lane in lanes.items() if lane.budget != Caps()}
    if not capped:
        yield dict.fromkeys(lanes, shared)
        return
    edges = tuple((edge_between(name, HERE), budget_of_caps(caps)) for name, caps in capped.items())
    budgets = Budgets(name="lanes", total=Budget(), edges=edges, principal=Budget())
    with open_ledger(path, budgets) as ledger:
        own = {name: LedgerPurse(ledger, (name, HERE)) for name in capped}
        for purse in own.values():
            with suppress(BudgetExceededError):
                purse.stand_by(OWN_PRINCIPAL, Bits(16 * CLOSE_BITS))
        try:
            yield {name: LanePurse(own[name], shared) if name in own else shared for name in lanes}
        finally:
            for purse in own.values():
                purse.close()
