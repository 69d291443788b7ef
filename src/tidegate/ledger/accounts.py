"""One account's balance against its caps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tidegate.errors import BudgetExceededError
from tidegate.ledger.budgets import Budget, Scope
from tidegate.ledger.window import Window
from tidegate.units import Bits


@dataclass(frozen=True, slots=True)
class Balance:
    """`spent` since the log began, `reserved` now, `left` by the tightest cap (None: uncapped)."""

    spent: Bits
    reserved: Bits
    left: Bits | None


@dataclass(frozen=True, slots=True)
class _Limit:
    """One cap at one instant; `left` is negative where incidents overdrew it."""

    name: str
    left: int
    window: Window | None


@dataclass(frozen=True, slots=True)
class Account:
    """What one scope spent and holds. Reserved bits count against every cap until settled."""

    scope: Scope
    budget: Budget
    spent: int
    reserved: int
    credit: int
    windows: tuple[Window, ...]

    @classmethod
    def new(cls, scope: Scope, budget: Budget) -> Account:
        """An account that nothing was charged to yet."""
        windows = tuple(Window(1000 * rolling.seconds) for rolling in budget.windows)
        return cls(scope, budget, 0, 0, 0, windows)

    def hold(self, bits: int) -> Account:
        """Reserve `bits`, or free them where negative."""
        return replace(self, reserved=self.reserved + bits)

    def spend(self, now: int, bits: int) -> Account:
        """Charge `bits`, dated `now`."""
        windows = tuple(window.add(now, bits) for window in self.windows)
        return replace(self, spent=self.spent + bits, windows=windows)

    def top_up(self, now: int, bits: int) -> Account:
        """Raise the lifetime cap by `bits`, and each window's for one length of that window."""
        windows = tuple(window.credit(now, bits) for window in self.windows)
        return replace(self, credit=self.credit + bits, windows=windows)

    def balance(self, now: int) -> Balance:
        """The balance at ledger time `now`."""
        left = min((limit.left for limit in self._limits(now)), default=None)
        return Balance(
            Bits(self.spent), Bits(self.reserved), None if left is None else Bits(max(0, left))
        )

    def refusal(self, now: int, bits: int) -> BudgetExceededError | None:
        """Why `bits` more cannot be held now, by the cap that lasts longest; None if they can."""
        short = (limit for limit in self._limits(now) if limit.left < bits)
        return max((self._error(limit, now, bits) for limit in short), key=wait_of, default=None)

    def _error(self, limit: _Limit, now: int, bits: int) -> BudgetExceededError:
        wait = None if limit.window is None else limit.window.frees_in(now, bits - limit.left)
        return BudgetExceededError(
            f"The {limit.name} budget of {self.scope} has {max(0, limit.left)} bits left;"
            f" {bits} are needed.",
            scope=self.scope,
            budget=limit.name,
            needed=bits,
            left=max(0, limit.left),
            retry_after_s=None if wait is None else wait / 1000,
        )

    def _limits(self, now: int) -> Iterator[_Limit]:
        if self.budget.lifetime is not None:
            left = self.budget.lifetime + self.credit - self.spent - self.reserved
            yield _Limit("lifetime", left, None)
        for rolling, window in zip(self.budget.windows, self.windows, strict=True):
            left = rolling.bits - window.used(now) - self.reserved
            yield _Limit(f"{rolling.seconds} s", left, window)


def wait_of(error: BudgetExceededError) -> float:
    """Seconds until `error` may pass.

    Of several spent caps the one with the longest wait is named, so that a client that waits for it
    is not refused by another that was spent all along.
    """
    wait = error.details["retry_after_s"]
    return wait if isinstance(wait, float) else float("inf")
