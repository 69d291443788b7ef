"""The outer half's ledger, read beside its writer and never written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tidegate.clock import Clock
from tidegate.console.burn import Burn, seconds_at_caps, seconds_for
from tidegate.console.errors import SourceError
from tidegate.console.picture import Account, Budget
from tidegate.errors import LedgerError
from tidegate.ledger import SqliteStore
from tidegate.ledger.budgets import TOTAL, Budgets, Scope
from tidegate.ledger.errors import InvalidEntryError
from tidegate.ledger.state import State
from tidegate.ledger.store import Store
from tidegate.ledger.verify import catch_up

MOST_ACCOUNTS = 200


class LedgerSource:
    """Balances as the budgets given say, checked against the log's chain as it is read.

    `weight_bits`: of the model that must not leave, as stored; None where nobody said. `crossed`:
    bits that crossed in all as the outer half counts them, where that is known: the ledger sees a
    lease's worth at a time, which says little of a quiet link's speed.
    """

    def __init__(
        self,
        path: Path,
        budgets: Budgets,
        clock: Clock,
        *,
        weight_bits: int | None,
        crossed: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._path, self._clock, self._weights = path, clock, weight_bits
        self._crossed = crossed
        self._store: Store | None = None
        self._state = State(budgets)
        self._seen_at = clock.monotonic()
        self._burns: dict[Scope, Burn] = {}
        self._history = Burn()

    def read(self) -> Budget:
        """Raises SourceError: there is no ledger, or it is not sound."""
        try:
            if self._store is None:
                if not self._path.exists():
                    raise SourceError(f"there is no ledger at {self._path.name} yet")
                self._store = SqliteStore(self._path)
            state = catch_up(self._store, self._state)
        except InvalidEntryError as error:
            raise SourceError(f"the ledger is broken: {error.message}") from error
        except LedgerError as error:
            raise SourceError(error.message) from error
        if state is not self._state:
            self._state, self._seen_at = state, self._clock.monotonic()
        return self._budget()

    def _budget(self) -> Budget:
        monotonic = self._clock.monotonic()
        now = self._state.time + int(1000 * (monotonic - self._seen_at))
        crossed = self._crossed()
        accounts = tuple(self._accounts(now, monotonic, crossed))
        total = accounts[0]
        self._history.add(self._clock.now(), total.spent if crossed is None else crossed)
        caps = self._state.budgets.total
        return Budget(
            accounts=accounts,
            history=self._history.samples,
            entries=self._state.tip.size,
            weight_bits=self._weights,
            exfiltrate_s=seconds_for(self._weights, total.a_second),
            exfiltrate_cap_s=seconds_at_caps(
                self._weights,
                None if caps.lifetime is None else total.left,
                [(window.seconds, window.bits) for window in caps.windows],
            ),
        )

    def _accounts(self, now: int, monotonic: float, crossed: int | None) -> Iterator[Account]:
        """The total first, then edges, then the principals that spent most."""
        known = self._state.accounts
        order = sorted(known, key=lambda scope: (scope.startswith("principal:"), scope))
        spent = sorted(
            (scope for scope in order if scope.startswith("principal:")),
            key=lambda scope: -known[scope].spent,
        )
        edges = [scope for scope in order if scope.startswith("edge:")]
        for scope in [TOTAL, *edges, *spent][:MOST_ACCOUNTS]:
            balance = self._state.account(scope).balance(now)
            burn = self._burns.setdefault(scope, Burn())
            counted = balance.spent if crossed is None or scope != TOTAL else crossed
            burn.add(monotonic, counted)
            speed = burn.a_second()
            yield Account(
                scope=scope,
                spent=balance.spent,
                reserved=balance.reserved,
                left=balance.left,
                a_second=speed,
                empty_in_s=seconds_for(balance.left, speed),
            )
