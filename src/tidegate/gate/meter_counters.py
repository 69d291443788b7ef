"""Counters of limited width as totals that only grow."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tidegate.gate.meter_port import MeterError


@dataclass(frozen=True, slots=True)
class Running:
    """A counter of `bits` bits, unrolled: `total` since it was first looked at.

    A narrow counter may pass its end once between two looks, never twice: so each look has to come
    before half its range can have gone by (2**31 packets; 2**31 bytes are 0.17 s at 100 Gbit/s,
    which is why no byte counter of 32 bits is taken).
    """

    bits: int
    last: int
    total: int = 0

    def moved_to(self, value: int) -> Running:
        """The total once the counter shows `value`.

        Raises:
            MeterError: the counter went back, as one does that was reset; or shows more than it
                has bits.
        """
        if not 0 <= value < 1 << self.bits:
            raise MeterError(f"a counter of {self.bits} bits shows {value}", shown=str(value))
        step = (value - self.last) % (1 << self.bits)
        if step >= 1 << (self.bits - 1):
            raise MeterError(
                f"a counter went from {self.last} to {value}: it was reset, or not read in time",
                before=str(self.last),
                after=str(value),
            )
        return replace(self, last=value, total=self.total + step)
