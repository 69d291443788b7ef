"""The ledger never says less than what left."""

from __future__ import annotations

import pytest

from tidegate.clock import ManualClock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.gate.meter_ledger import OVERRUN, LedgerMeter
from tidegate.gate.meter_port import Boundary, Counted, MeterError, Reading
from tidegate.ledger import (
    Budget,
    Budgets,
    Charge,
    Fault,
    Ledger,
    MemoryStore,
    edge_scope,
)
from tidegate.ledger.entries import parse
from tidegate.units import Bits, Bytes

EDGE = "gate→outside"
NOW = Boundary(1, 0, "boot")


class Counter:
    """A meter that says what it is told to."""

    name = "queue"

    def __init__(self) -> None:
        self.bytes = 0
        self.gone = False

    def read(self, boundary: Boundary) -> Reading:
        if self.gone:
            raise MeterError("there is no such interface")
        return Reading(
            meter=self.name,
            boundary=boundary,
            since="start",
            total=Counted(wire_bytes=self.bytes),
            knows=("wire_bytes",),
        )


def _ledger(store: MemoryStore, lifetime: int | None = None) -> Ledger:
    budgets = Budgets(
        name="test",
        total=Budget(lifetime=lifetime),
        edges=((EDGE, Budget()),),
        principal=Budget(),
    )
    return Ledger(store, budgets, ManualClock())


def _meter(store: MemoryStore, counter: Counter, lifetime: int | None = None) -> LedgerMeter:
    return LedgerMeter(_ledger(store, lifetime), counter, principal="wire", edge=EDGE, boundary=NOW)


def _spent(store: MemoryStore) -> tuple[int, int]:
    balance = _ledger(store).balance(edge_scope(EDGE))
    return balance.spent // 8, balance.reserved // 8


def test_what_left_is_read_back_from_the_ledger() -> None:
    store, counter = MemoryStore(), Counter()
    counter.bytes = 777
    meter = _meter(store, counter)
    meter.cover(Bytes(10_000))
    for counter.bytes, said in ((777, 0), (1_777, 1_000), (10_000, 9_223), (10_777, 10_000)):
        assert meter.read(NOW).total.wire_bytes == said
        assert _spent(store) == (said, 10_000 - said)


def test_what_left_since_the_last_reading_is_charged_when_the_meter_closes() -> None:
    store, counter = MemoryStore(), Counter()
    ledger = _ledger(store)
    meter = LedgerMeter(
        ledger, counter, principal="wire", edge=EDGE, boundary=NOW, waiting=lambda: 500
    )
    meter.cover(Bytes(10_000))
    counter.bytes = 1_000
    meter.read(NOW)
    counter.bytes = 4_000
    meter.close()
    assert _spent(store) == (4_500, 0)


def test_a_meter_that_cannot_be_read_any_more_leaves_all_that_it_held_charged() -> None:
    store, counter = MemoryStore(), Counter()
    meter = _meter(store, counter)
    meter.cover(Bytes(10_000))
    counter.gone = True
    with pytest.raises(MeterError):
        meter.close()
    assert _spent(store) == (10_000, 0)
    meter = _meter(store, Counter())
    assert _spent(store) == (10_000, 0)


def test_what_is_charged_and_what_is_held_always_cover_what_may_leave() -> None:
    store, counter = MemoryStore(), Counter()
    meter = _meter(store, counter)
    for _ in range(5):
        meter.cover(Bytes(1_000))
        assert sum(_spent(store)) >= counter.bytes + 1_000
        counter.bytes += 900
        meter.read(NOW)
    assert _spent(store) == (4_500, 100)


def test_what_left_without_a_reservation_is_charged_and_said() -> None:
    store, counter = MemoryStore(), Counter()
    meter = _meter(store, counter)
    meter.cover(Bytes(100))
    counter.bytes = 130
    assert meter.read(NOW).total.wire_bytes == 130
    commands = [parse(row.entry, n).does for n, row in enumerate(store.read(0, 100))]
    charges = [command for command in commands if isinstance(command, Charge)]
    assert [(charge.bits, charge.reason) for charge in charges] == [(8 * 30, OVERRUN)]


def test_a_spent_budget_refuses_the_next_lease() -> None:
    store, counter = MemoryStore(), Counter()
    meter = _meter(store, counter, lifetime=8 * 1_000)
    meter.cover(Bytes(800))
    counter.bytes = 800
    meter.read(NOW)
    with pytest.raises(BudgetExceededError):
        meter.cover(Bytes(201))
    meter.cover(Bytes(200))


def test_what_a_killed_gate_had_reserved_counts_as_gone() -> None:
    store, counter = MemoryStore(), Counter()
    _meter(store, counter).cover(Bytes(5_000))
    # Killed here, whatever of it left.
    again = _meter(store, Counter())
    assert _spent(store) == (5_000, 0)
    assert again.read(NOW).total.wire_bytes == 0


@pytest.mark.parametrize("fault", Fault)
def test_a_disk_that_fails_never_makes_the_ledger_say_less(fault: Fault) -> None:
    for failing in range(5):
        store = MemoryStore(lambda n, at=failing: fault if n == at else None)
        counter = Counter()
        try:
            meter = _meter(store, counter)
            meter.cover(Bytes(1_000))
            counter.bytes = 600
            meter.read(NOW)
            meter.cover(Bytes(1_000))
            counter.bytes = 1_200
            meter.read(NOW)
        except LedgerError:
            pass
        again = _meter(store, counter)
        spent, held = _spent(store)
        assert spent + held >= counter.bytes
        again.close()


def test_a_stranger_on_the_edge_is_noticed() -> None:
    store, counter = MemoryStore(), Counter()
    meter = _meter(store, counter)
    _ledger(store).charge("somebody", EDGE, Bits(12), "other business")
    with pytest.raises(MeterError, match="somebody else"):
        meter.read(NOW)
