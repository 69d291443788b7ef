"""Units as types, so that a bit is never added to a byte by accident."""

from __future__ import annotations

from typing import NewType

Bits = NewType("Bits", int)
"""Whole bits on a link; what the ledger charges."""

MicroBits = NewType("MicroBits", int)
"""Ideal code length in units of 2**-16 bit; what the symbol model reports for attribution."""

Bytes = NewType("Bytes", int)
Tokens = NewType("Tokens", int)
Seconds = NewType("Seconds", float)
"""Durations on a monotonic clock."""

Timestamp = NewType("Timestamp", float)
"""Seconds since the Unix epoch, UTC; for people and for budget windows."""


def bits_of(size: int) -> Bits:
    """Bits in `size` bytes."""
    return Bits(8 * size)
