"""On the grid, what is said changes nothing but the inside of cells."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import GateError
from tidegate.gate.grid import (
    MOST_WAITING,
    Cells,
    Departures,
    Waiting,
    offered,
    read,
    released,
    timing_bits,
    timing_bits_per_second,
)

CELLS = Cells(slot_us=50_000, size=64, lanes=3)
messages = st.lists(st.tuples(st.integers(0, 2), st.binary(min_size=1, max_size=62)), max_size=30)


def _sent(said: list[tuple[int, bytes]], slots: int) -> list[bytes]:
    waiting = Waiting.none(CELLS)
    for lane, message in said:
        waiting = offered(waiting, CELLS, lane, message) or waiting
    cells = []
    for slot in range(slots):
        waiting, cell = released(waiting, CELLS, slot)
        cells.append(cell)
    return cells


@given(messages)
def test_every_slot_has_one_cell_of_one_size(said: list[tuple[int, bytes]]) -> None:
    assert {len(cell) for cell in _sent(said, 100)} == {CELLS.size}


@given(messages)
def test_each_lane_is_heard_whole_and_in_order_in_its_own_slots(
    said: list[tuple[int, bytes]],
) -> None:
    cells = _sent(said, 100)
    for lane in range(CELLS.lanes):
        heard = [message for cell in cells[lane::3] if (message := read(cell, CELLS))]
        assert heard == [message for of, message in said if of == lane]


@given(messages, st.integers(0, 2))
def test_what_one_lane_says_moves_nothing_of_another(
    said: list[tuple[int, bytes]], silent: int
) -> None:
    with_all, without = _sent(said, 60), _sent([m for m in said if m[0] != silent], 60)
    others = [slot for slot in range(60) if slot % 3 != silent]
    assert [with_all[slot] for slot in others] == [without[slot] for slot in others]


def test_a_message_that_does_not_fit_is_refused() -> None:
    none = Waiting.none(CELLS)
    assert offered(none, CELLS, 0, b"") is None
    assert offered(none, CELLS, 0, bytes(63)) is None
    for _ in range(MOST_WAITING):
        none = offered(none, CELLS, 1, b"x") or none
    assert offered(none, CELLS, 1, b"x") is None
    assert offered(none, CELLS, 0, b"x") is not None


@pytest.mark.parametrize(
    "cell", [b"", bytes(63), b"\x00\x3f" + bytes(62), b"\x00\x00" + bytes(61) + b"\x01"]
)
def test_padding_and_length_have_no_room_for_more(cell: bytes) -> None:
    with pytest.raises(GateError, match="not as the grid makes them"):
        read(cell, CELLS)


def test_the_bits_that_timing_leaves_open_follow_the_measured_spread() -> None:
    # 20 frames a second with 50 ms of freedom, told apart by 1 us: 312 bits a second.
    free = Departures(20, 0, 0, 50_000_000)
    assert timing_bits_per_second(free, CELLS, 1_000) == pytest.approx(312.2, abs=0.1)
    assert timing_bits(Departures(20, 0, 700, 700), 1_000) == 0
    missed = Departures().with_one(5).with_missed(3).with_one(9)
    assert missed == Departures(5, 3, 5, 9)
    assert timing_bits(missed, 4) == pytest.approx(2 * 1 + 3 * math.log2(6))
    assert timing_bits_per_second(Departures(), CELLS, 1) == 0
