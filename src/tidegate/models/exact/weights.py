"""Rows of weights as integers with one scale each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.ops import QUIET

F32 = NDArray[np.float32]


def integer_rows(w_OK: F32, steps: int = 127) -> tuple[NDArray[Any], F32]:
    """q_OK within ±steps, int8 or int16, and scale_O: w ≈ q · scale, rounded to nearest.

    A row of nothing becomes zeros with scale 0.
    """
    largest_O = np.abs(w_OK).max(axis=1)
    quiet_O = largest_O < QUIET
    reciprocal_O = np.float32(steps) / np.where(quiet_O, np.float32(1), largest_O)
    q_OK = np.clip(np.rint(w_OK * reciprocal_O[:, None]), -steps, steps)
    q_OK[quiet_O] = 0
    scale_O = np.where(quiet_O, np.float32(0), largest_O / np.float32(steps))
    return q_OK.astype(np.int8 if steps <= 127 else np.int16), scale_O
