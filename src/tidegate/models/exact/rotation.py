"""Cosines and sines of rotary positions, the same float32 on every machine.

No mathematics library promises equal bits everywhere, so these come from decimal and integer
arithmetic. Source: spec/exact.md; rotary embeddings after arXiv 2104.09864.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

F32Array = NDArray[np.float32]

_DIGITS = 60
_BITS = 160
"""Of fixed point; a million turns lose 21 of them, and a float32 needs 24."""

_KEPT = 60
"""Bits that are handed to numpy, whose int64 to float64 rounds correctly."""


def tables(positions: int, head_size: int, theta: float) -> tuple[F32Array, F32Array]:
    """cos_TR and sin_TR of t · theta**(-2r / head_size), where R is half a head."""
    half = head_size // 2
    found_2RT = np.empty((2, half, positions), np.int64)
    for r in range(half):
        step_cos, step_sin = _first_turn(theta, r, half)
        cos, sin = 1 << _BITS, 0
        column = []
        for _ in range(positions):
            column.append((cos >> _BITS - _KEPT, sin >> _BITS - _KEPT))
            cos, sin = (
                (cos * step_cos - sin * step_sin) >> _BITS,
                (sin * step_cos + cos * step_sin) >> _BITS,
            )
        found_2RT[:, r] = np.array(column, np.int64).T
    cos_TR, sin_TR = (found_2RT.transpose(0, 2, 1) * 2.0**-_KEPT).astype(np.float32)
    return np.ascontiguousarray(cos_TR), np.ascontiguousarray(sin_TR)


def _first_turn(theta: float, r: int, half: int) -> tuple[int, int]:
    """Cosine and sine of theta**(-r / half) in fixed point, by their power series."""
    with localcontext(prec=_DIGITS):
        angle = (-Decimal(theta).ln() * r / half).exp()
        term, power = Decimal(1), 0
        sums = [Decimal(0), Decimal(0)]  # even powers make the cosine, odd ones the sine
        while abs(term) > Decimal(10) ** -_DIGITS:
            sums[power % 2] += -term if power % 4 >= 2 else term
            power += 1
            term = term * angle / power
        return int(sums[0] * 2**_BITS), int(sums[1] * 2**_BITS)
