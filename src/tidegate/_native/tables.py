"""Integer tables the kernels and their reference share; built with integers alone.

`math.log2` may differ in its last bit between C libraries, and one differing entry would make two
machines draw different noise. So logarithms are taken by repeated squaring of big integers.
"""

from __future__ import annotations

LOG_BITS = 12
"""The logarithm table has 2**LOG_BITS intervals, interpolated linearly (error below 1.1e-8)."""

LN2_Q32 = 0xB17217F8
"""ln 2 in units of 2**-32, rounded (0.693147180559945...)."""


def log2_fixed(numerator: int, denominator: int, fraction_bits: int) -> int:
    """round(log2(numerator / denominator) * 2**fraction_bits) for a ratio in [1, 2)."""
    guard = fraction_bits + 64
    value = (numerator << guard) // denominator
    result = 0
    for _ in range(fraction_bits + 1):  # one bit more than asked for, to round by
        value = (value * value) >> guard
        result <<= 1
        if value >> (guard + 1):
            value >>= 1
            result |= 1
    return (result + 1) >> 1


def log2_table() -> list[int]:
    """2**LOG_BITS + 1 values of log2(1 + i / 2**LOG_BITS) in units of 2**-32; the last is 2**32."""
    size = 1 << LOG_BITS
    return [log2_fixed(size + i, size, 32) for i in range(size)] + [1 << 32]
