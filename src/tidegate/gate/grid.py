"""The release grid: cells of one size leave in fixed slots, whatever there is to say. Pure.

Someone inside who may choose when a frame leaves, within a window w that is told apart to r, says
log2(w / r) bits with each. On the grid he chooses nothing: slot n belongs to lane n modulo the
number of lanes, a lane without data sends a dummy, and every cell has the same size. What is left
is how far departures stray from their slots, if he can make them (by load, say): at most
log2(1 + spread / r) bits a slot, with the spread that was measured.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

from tidegate.errors import GateError

_LENGTH = struct.Struct(">H")
MOST_WAITING = 256
"""Messages that a lane may have waiting; more are refused."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The grid: a cell of `size` bytes each `slot_us` microseconds, by turns for each lane."""

    slot_us: int
    size: int
    lanes: int

    @property
    def room(self) -> int:
        """Bytes of a message that one cell takes."""
        return self.size - _LENGTH.size

    @property
    def slots_per_second(self) -> float:
        """Cells a second, dummies included."""
        return 1e6 / self.slot_us

    @property
    def content_bits_per_second(self) -> float:
        """All bits of all cells: what the quota of their class is charged, less headers."""
        return 8 * self.size * self.slots_per_second


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages of each lane that have no slot yet, oldest first."""

    lanes: tuple[tuple[bytes, ...], ...]

    @classmethod
    def none(cls, cells: Cells) -> Waiting:
        """Nobody has said anything."""
        return cls(((),) * cells.lanes)


def offered(waiting: Waiting, cells: Cells, lane: int, message: bytes) -> Waiting | None:
    """With a message of 1 to `room` bytes at a lane's end; None where it is refused."""
    queue = waiting.lanes[lane]
    if not 0 < len(message) <= cells.room or len(queue) >= MOST_WAITING:
        return None
    lanes = (*waiting.lanes[:lane], (*queue, message), *waiting.lanes[lane + 1 :])
    return replace(waiting, lanes=lanes)


def released(waiting: Waiting, cells: Cells, slot: int) -> tuple[Waiting, bytes]:
    """What waits after slot `slot`, and the cell that leaves in it."""
    lane = slot % cells.lanes
    message, *rest = waiting.lanes[lane] or (b"",)
    lanes = (*waiting.lanes[:lane], tuple(rest), *waiting.lanes[lane + 1 :])
    cell = _LENGTH.pack(len(message)) + message
    return replace(waiting, lanes=lanes), cell.ljust(cells.size, b"\0")


def read(cell: bytes, cells: Cells) -> bytes:
    """A cell's message; empty for a dummy.

    Raises GateError for a cell of another size, or padding that is not zero: it would say more
    than the message does.
    """
    length = _LENGTH.unpack_from(cell)[0] if len(cell) == cells.size else cells.size
    message, padding = cell[2 : 2 + length], cell[2 + length :]
    if length > cells.room or padding.strip(b"\0"):
        raise GateError("a cell is not as the grid makes them", size=len(cell))
    return message


@dataclass(frozen=True, slots=True)
class Departures:
    """How cells left: nanoseconds after their slots began, and slots that no cell left in."""

    slots: int = 0
    missed: int = 0
    earliest_ns: int = 0
    latest_ns: int = 0

    def with_one(self, late_ns: int) -> Departures:
        """With a cell that left `late_ns` after its slot began."""
        first = self.slots == self.missed
        return Departures(
            self.slots + 1,
            self.missed,
            late_ns if first else min(self.earliest_ns, late_ns),
            late_ns if first else max(self.latest_ns, late_ns),
        )

    def with_missed(self, slots: int) -> Departures:
        """With slots that passed without a cell."""
        return replace(self, slots=self.slots + slots, missed=self.missed + slots)


def timing_bits(departures: Departures, resolution_ns: int) -> float:
    """Bits that the departures' times can have carried, at most.

    Each cell: which of the times, told apart by `resolution_ns`, that cells did leave at. Each
    missed slot: which one it was.
    """
    sent = departures.slots - departures.missed
    spread = departures.latest_ns - departures.earliest_ns
    bits = sent * math.log2(1 + spread / resolution_ns)
    return bits + departures.missed * math.log2(1 + departures.slots)


def timing_bits_per_second(departures: Departures, cells: Cells, resolution_ns: int) -> float:
    """The same a second; 0 before the first slot."""
    if departures.slots == 0:
        return 0.0
    return timing_bits(departures, resolution_ns) / departures.slots * cells.slots_per_second
