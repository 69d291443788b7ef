"""Counts of several meters from one starting point."""

from __future__ import annotations

import pytest

from tidegate.clock import ManualClock
from tidegate.gate.meter_group import Group
from tidegate.gate.meter_port import FIELDS, Boundary, Counted, Reading
from tidegate.gate.published import Counts
from tidegate.gate.reconcile import Agree, Disagree


class _Meter:
    def __init__(self, name: str, knows: tuple[str, ...] = FIELDS, before: int = 0) -> None:
        self.name, self._knows, self.frames = name, knows, before

    def read(self, boundary: Boundary) -> Reading:
        ip, wire = 86 * self.frames, 100 * self.frames
        packets = self.frames if "frames" in self._knows else 0
        total = Counted(packets, ip if packets else 0, wire)
        return Reading(
            meter=self.name,
            boundary=boundary,
            since="it began",
            total=total,
            protocols=(("ip4.tcp", total),) if packets else (),
            knows=self._knows,
        )


@pytest.fixture
def meters() -> list[_Meter]:
    return [_Meter("kernel", before=50), _Meter("ledger", ("wire_bytes",)), _Meter("tap", before=7)]


def test_counts_begin_where_the_meters_began_and_go_on_past_each_agreement(
    meters: list[_Meter],
) -> None:
    group = Group(meters, ManualClock(), "boot")
    assert group.counts() == ()
    group.zero()
    for _ in range(3):
        for meter in meters:
            meter.frames += 2
        assert isinstance(group.judge(), Agree)
    assert group.counts() == (
        Counts("kernel", 6, 516, 600),
        Counts("ledger", None, None, 600),
        Counts("tap", 6, 516, 600),
    )


def test_a_meter_that_lies_is_seen_in_its_count(meters: list[_Meter]) -> None:
    group = Group(meters, ManualClock(), "boot")
    group.zero()
    meters[2].frames += 1
    assert isinstance(group.judge(), Disagree)
    assert [one.wire_bytes for one in group.counts()] == [0, 0, 100]
