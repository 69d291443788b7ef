from __future__ import annotations

from collections.abc import Callable

import pytest

from tidegate.clock import ManualClock
from tidegate.ledger import Budgets, Ledger, MemoryStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def open_ledger(store: MemoryStore, clock: ManualClock) -> Callable[[Budgets], Ledger]:
    return lambda budgets: Ledger(store, budgets, clock)
