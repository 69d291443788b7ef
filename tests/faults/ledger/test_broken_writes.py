"""Each write is broken twice, and afterwards the ledger never says less than what was sent."""

from __future__ import annotations

import pytest

from tidegate.clock import ManualClock
from tidegate.errors import LedgerError
from tidegate.ledger import (
    TOTAL,
    Budget,
    Budgets,
    Fault,
    Ledger,
    MemoryStore,
    Rolling,
    Sound,
    edge_scope,
)

EDGE = "inner→outside"
CAP = 1_000
BUDGETS = Budgets(
    name="test",
    total=Budget(lifetime=CAP),
    edges=((EDGE, Budget(windows=(Rolling(3_600, CAP),))),),
    principal=Budget(),
)
WRITES = 9


class Line:
    """A link that sends only what was reserved, and stops at the first error."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.sent = 0

    def run(self) -> bool:
        """Open the ledger and use it: nine writes. True if it got to the end."""
        try:
            ledger = Ledger(self._store, BUDGETS, ManualClock())
            for _ in range(2):
                held = ledger.reserve("alice", EDGE, 100)
                self.sent += 60
                held = ledger.extend(held, 50)
                self.sent += 80
                ledger.commit(held, 140)
            ledger.release(ledger.reserve("alice", EDGE, 10))
        except LedgerError:
            return False
        return True


def counted(store: MemoryStore) -> int:
    balance = Ledger(store, BUDGETS, ManualClock()).balance(TOTAL)
    return balance.spent + balance.reserved


def test_the_script_makes_as_many_writes_as_are_broken() -> None:
    store = MemoryStore()
    assert Line(store).run()
    assert store.tip().size == WRITES


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("broken", range(WRITES))
def test_a_restart_after_a_broken_write_never_undercounts(broken: int, fault: Fault) -> None:
    store = MemoryStore(lambda n: fault if n == broken else None)
    line = Line(store)
    assert not line.run()
    assert counted(store) >= line.sent
    assert line.run()
    ledger = Ledger(store, BUDGETS, ManualClock())
    for held in ledger.held():
        ledger.recover(held, held.bits, "writer died")
    assert ledger.balance(TOTAL).spent >= line.sent
    assert isinstance(ledger.verify(), Sound)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("broken", range(1, WRITES))
def test_a_running_ledger_goes_on_from_what_the_store_holds(broken: int, fault: Fault) -> None:
    """The same object, not a restart: after a failure it reads on before it decides again."""
    store = MemoryStore(lambda n: fault if n == broken else None)
    ledger = Ledger(store, BUDGETS, ManualClock())
    sent = failed = 0
    for _ in range(WRITES):
        try:
            held = ledger.reserve("alice", EDGE, 10)
            sent += 10
            ledger.commit(held, 10)
        except LedgerError:
            failed += 1
    assert failed == 1
    balance = ledger.balance(TOTAL)
    assert sent <= balance.spent + balance.reserved <= sent + 10
    assert isinstance(ledger.verify(), Sound)


@pytest.mark.parametrize("fault", Fault)
def test_a_reservation_whose_write_failed_is_not_handed_out(fault: Fault) -> None:
    store = MemoryStore(lambda n: fault if n == 1 else None)
    ledger = Ledger(store, BUDGETS, ManualClock())
    with pytest.raises(LedgerError):
        ledger.reserve("alice", EDGE, CAP)
    left = ledger.balance(edge_scope(EDGE)).left
    assert left == (0 if fault is Fault.PERSISTED else CAP)
    for held in ledger.held():
        ledger.release(held)
    ledger.reserve("alice", EDGE, CAP)


@pytest.mark.parametrize("fault", Fault)
def test_a_ledger_that_cannot_record_its_opening_does_not_open(fault: Fault) -> None:
    with pytest.raises(LedgerError):
        Ledger(MemoryStore(lambda _: fault), BUDGETS, ManualClock())
