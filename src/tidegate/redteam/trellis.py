"""Syndrome-trellis codes: hide a message in parities so that the cheapest bits are flipped.

The receiver needs to know nothing of the costs: he multiplies what he sees by a matrix. The matrix
is a narrow band of copies of one small one, so that the Viterbi algorithm finds the best flips.
(Filler, Judas & Fridrich, "Minimizing additive distortion in steganography using syndrome-trellis
codes", IEEE TIFS 2011.)
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from tidegate.verify.scores_rows import F64Array

U8Array = NDArray[np.uint8]

HEIGHT = 8
"""Rows of the small matrix; the search keeps 2**HEIGHT states."""

_STATES = np.arange(1 << HEIGHT)


def columns(cover: int, payload: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each cover element the row it first touches, and the bits it touches from there on.

    Columns are spread evenly over the rows. Their first and last rows are set, as good codes have
    it, and the rest is drawn from the column's place. Both int64 [cover].
    """
    place_N = np.arange(cover)
    row_N = place_N * payload // cover
    drawn = hashlib.shake_128(b"tidegate.redteam.trellis").digest(2 * cover)
    middle_N = np.frombuffer(drawn, "<u2").astype(np.int64)
    return row_N, (middle_N | 1 | 1 << (HEIGHT - 1)) & ((1 << HEIGHT) - 1)


def extract(seen_N: U8Array, payload: int) -> U8Array:
    """The message in `seen_N` (bits): what the receiver computes. [payload]."""
    row_N, column_N = columns(seen_N.size, payload)
    message_M = np.zeros(payload + HEIGHT, np.uint8)
    for row, column in zip(row_N[seen_N == 1], column_N[seen_N == 1], strict=True):
        message_M[row : row + HEIGHT] ^= (column >> np.arange(HEIGHT) & 1).astype(np.uint8)
    return message_M[:payload]


def embed(cover_N: U8Array, cost_N: F64Array, message_M: U8Array) -> U8Array | None:
    """The cheapest bits to serve instead of `cover_N` so that `message_M` is extracted.

    cost_N: what flipping each bit costs; inf where it must not be. None where nothing but a
    forbidden flip would do.
    """
    row_N, column_N = columns(cover_N.size, message_M.size)
    wealth_S = np.full(_STATES.size, math.inf)
    wealth_S[0] = 0.0
    served_NS = np.zeros((cover_N.size, _STATES.size), np.uint8)
    row = 0
    for place in range(cover_N.size):
        while row < row_N[place]:
            wealth_S = _closed(wealth_S, int(message_M[row]))
            row += 1
        # A row's parity is the state's lowest bit; rows beyond the message are not looked at.
        column = int(column_N[place]) & ((1 << min(HEIGHT, message_M.size - row)) - 1)
        zero_S = wealth_S + (cost_N[place] if cover_N[place] == 1 else 0.0)
        one_S = wealth_S[_STATES ^ column] + (cost_N[place] if cover_N[place] == 0 else 0.0)
        served_NS[place] = one_S < zero_S
        wealth_S = np.minimum(zero_S, one_S)
    while row < message_M.size:
        wealth_S = _closed(wealth_S, int(message_M[row]))
        row += 1
    if math.isinf(wealth_S[0]):
        return None
    return _traced(served_NS, row_N, column_N, message_M)


def _closed(wealth_S: F64Array, bit: int) -> F64Array:
    """The states in which a row's parity is the message's bit, moved on to the next row."""
    moved_S = np.full(_STATES.size, math.inf)
    moved_S[: _STATES.size // 2] = wealth_S[bit::2]
    return moved_S


def _traced(
    served_NS: U8Array,
    row_N: NDArray[np.int64],
    column_N: NDArray[np.int64],
    message_M: U8Array,
) -> U8Array:
    served_N = np.zeros(len(served_NS), np.uint8)
    state, row = 0, message_M.size
    for place in range(len(served_NS) - 1, -1, -1):
        while row > row_N[place]:
            row -= 1
            state = (state << 1) & (_STATES.size - 1) | int(message_M[row])
        served_N[place] = served_NS[place, state]
        if served_N[place]:
            state ^= int(column_N[place]) & ((1 << min(HEIGHT, message_M.size - row)) - 1)
    return served_N
