"""Which meter lies, and when nobody can tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gate.meter_port import (
    ETHERNET,
    FIELDS,
    NON_IP,
    PROTOCOLS,
    Boundary,
    Counted,
    Reading,
    Span,
    sorted_rows,
    summed,
)
from tidegate.gate.reconcile import Agree, CannotTell, Disagree, reconcile

NOW = Boundary(7, 1_000, "boot")
METERS = ("kernel", "ledger", "tap")
KNOWS = {"kernel": FIELDS, "ledger": ("wire_bytes",), "tap": FIELDS}

frames = st.lists(
    st.tuples(st.sampled_from(PROTOCOLS), st.integers(42, 1514)), min_size=1, max_size=30
)


def _frame(protocol: str, size: int, count: int = 1) -> Counted:
    if protocol in NON_IP:
        return Counted(0, 0, count * size, count, count * size)
    return Counted(count, count * (size - ETHERNET), count * size)


def _reading(meter: str, sent: list[tuple[str, int]]) -> Reading:
    rows: dict[str, Counted] = {}
    for protocol, size in sent:
        rows[protocol] = rows.get(protocol, Counted()) + _frame(protocol, size)
    reading = Reading(
        meter=meter,
        boundary=NOW,
        since="start",
        total=summed(rows.items()),
        protocols=sorted_rows(rows),
        knows=KNOWS[meter],
    )
    if meter == "ledger":
        return replace(reading, protocols=(), total=Counted(wire_bytes=reading.total.wire_bytes))
    return reading


def _still(reading: Reading) -> Span:
    return Span(reading, reading)


def _base() -> list[Reading]:
    return [_reading(meter, []) for meter in METERS]


@given(frames)
def test_meters_that_saw_the_same_agree_to_the_byte(sent: list[tuple[str, int]]) -> None:
    verdict = reconcile(_base(), [_still(_reading(meter, sent)) for meter in METERS])
    assert verdict == Agree(NOW, settled=True, in_flight=0)


@given(frames, st.sampled_from(METERS), st.sampled_from(PROTOCOLS), st.integers(42, 1514))
def test_a_meter_with_a_frame_too_many_is_named(
    sent: list[tuple[str, int]], liar: str, protocol: str, size: int
) -> None:
    spans = [
        _still(_reading(meter, [*sent, (protocol, size)] if meter == liar else sent))
        for meter in METERS
    ]
    verdict = reconcile(_base(), spans)
    assert isinstance(verdict, Disagree)
    assert verdict.liars == (liar,)


@given(frames, st.sampled_from(METERS))
def test_a_meter_that_left_a_frame_out_is_named(sent: list[tuple[str, int]], liar: str) -> None:
    spans = [_still(_reading(meter, sent[1:] if meter == liar else sent)) for meter in METERS]
    verdict = reconcile(_base(), spans)
    assert isinstance(verdict, Disagree)
    assert verdict.liars == (liar,)


@given(
    frames,
    st.sampled_from(["kernel", "tap"]),
    st.sampled_from(["packets", "ip_bytes", "wire_bytes", "non_ip_bytes"]),
)
def test_a_number_that_breaks_the_meters_own_sum_names_it(
    sent: list[tuple[str, int]], liar: str, field: str
) -> None:
    spans = []
    for meter in METERS:
        reading = _reading(meter, sent)
        if meter == liar:
            more = replace(reading.total, **{field: getattr(reading.total, field) + 1})
            reading = replace(reading, total=more)
        spans.append(_still(reading))
    verdict = reconcile(_base(), spans)
    assert isinstance(verdict, Disagree)
    assert verdict.liars == (liar,)


@given(frames, frames, st.data())
def test_what_is_in_flight_is_tolerated_and_no_more(
    before: list[tuple[str, int]], moving: list[tuple[str, int]], data: st.DataObject
) -> None:
    # Each meter is read somewhere while frames pass; all have seen `before`, and none more.
    spans = []
    for meter in METERS:
        seen = data.draw(st.integers(0, len(moving)))
        later = data.draw(st.integers(seen, len(moving)))
        middle = len(moving) // 2
        low, high = min(seen, middle), max(later, middle)
        spans.append(
            Span(_reading(meter, before + moving[:low]), _reading(meter, before + moving[:high]))
        )
    assert isinstance(reconcile(_base(), spans), Agree)
    # A meter whose whole span lies behind what another has already counted is wrong.
    late = _still(_reading("tap", before + moving))
    early = [_still(_reading(meter, before)) for meter in ("kernel", "ledger")]
    verdict = reconcile(_base(), [*early, late])
    assert isinstance(verdict, Disagree)
    assert verdict.liars == ("tap",)


def test_what_still_waits_in_the_queue_has_not_left() -> None:
    sent = [("ip4.tcp", 1514)] * 10
    kernel = replace(_reading("kernel", sent), queued=3 * 1514)
    others = [_reading(meter, sent[:7]) for meter in ("ledger", "tap")]
    verdict = reconcile(_base(), [_still(reading) for reading in (kernel, *others)])
    assert verdict == Agree(NOW, settled=False, in_flight=3 * 1514)
    # Fewer than wait there can be explained; more cannot.
    others = [_reading(meter, sent[:6]) for meter in ("ledger", "tap")]
    verdict = reconcile(_base(), [_still(reading) for reading in (kernel, *others)])
    assert isinstance(verdict, Disagree)
    assert verdict.liars == ("kernel",)


def test_what_the_queue_dropped_has_not_left_either() -> None:
    sent = [("ip4.udp", 1000)] * 10
    kernel = replace(_reading("kernel", sent), dropped=2)
    others = [_reading(meter, sent[:8]) for meter in ("ledger", "tap")]
    verdict = reconcile(_base(), [_still(reading) for reading in (kernel, *others)])
    assert isinstance(verdict, Agree)
    assert not verdict.settled


def test_two_meters_that_disagree_stop_the_gate_though_nobody_can_be_named() -> None:
    sent = [("ip4.tcp", 100), ("ip4.udp", 100)]
    moved = [("ip4.tcp", 100), ("ip4.tcp", 100)]
    spans = [_still(_reading("kernel", sent)), _still(_reading("ledger", sent))]
    verdict = reconcile(_base(), [*spans, _still(_reading("tap", moved))])
    assert isinstance(verdict, Disagree)
    assert verdict.liars == ()
    assert "ip4.tcp" in verdict.findings[0].sentence


def test_a_meter_that_counts_backwards_is_named() -> None:
    sent = [("ip4.tcp", 1000)] * 3
    base = [_reading(meter, sent) for meter in METERS]
    spans = [_still(_reading(meter, sent[:2] if meter == "tap" else sent)) for meter in METERS]
    verdict = reconcile(base, spans)
    assert isinstance(verdict, Disagree)
    assert verdict.liars == ("tap",)


@pytest.mark.parametrize("meter", METERS)
def test_a_meter_that_began_anew_tells_nothing(meter: str) -> None:
    spans = [
        _still(replace(_reading(name, []), since="again" if name == meter else "start"))
        for name in METERS
    ]
    verdict = reconcile(_base(), spans)
    assert isinstance(verdict, CannotTell)
    assert meter in verdict.reason


@pytest.mark.parametrize("missing", METERS)
def test_two_meters_are_not_enough(missing: str) -> None:
    left = [meter for meter in METERS if meter != missing]
    verdict = reconcile(
        [_reading(meter, []) for meter in left], [_still(_reading(meter, [])) for meter in left]
    )
    assert isinstance(verdict, CannotTell)


def test_one_meter_twice_is_not_two() -> None:
    base = [_reading(meter, []) for meter in ("kernel", "tap", "tap")]
    verdict = reconcile(base, [_still(reading) for reading in base])
    assert isinstance(verdict, CannotTell)


def test_readings_of_another_boundary_or_boot_are_not_compared() -> None:
    spans = [_still(_reading(meter, [])) for meter in METERS]
    old = replace(spans[2].after, boundary=Boundary(6, 900, "boot"))
    assert isinstance(reconcile(_base(), [*spans[:2], _still(old)]), CannotTell)
    rebooted = Boundary(7, 1_000, "another")
    anew = [_still(replace(span.after, boundary=rebooted)) for span in spans]
    assert isinstance(reconcile(_base(), anew), CannotTell)


def test_nothing_to_compare_is_never_agreement() -> None:
    assert isinstance(reconcile([], []), CannotTell)
    assert isinstance(reconcile([], [], least=0), CannotTell)
