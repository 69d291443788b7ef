"""Models that anyone can derive from a seed: for vectors, known answers and tests.

Their tensors come from SHAKE-128 alone, so that two machines whose libraries differ derive the same
ones. They know nothing; their activations have the size that those of trained models have.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.parameters import expected
from tidegate.models.exact.shape import Shape


def tensors_of(shape: Shape, seed: str, *, wide_embedding: bool = False) -> dict[str, NDArray[Any]]:
    """Every tensor of a converted model; `wide_embedding` makes an untied one int16."""
    found: dict[str, NDArray[Any]] = {}
    for name, kind in expected(shape).items():
        dtype = np.dtype(kind.dtypes[-1 if wide_embedding else 0])
        size = math.prod(kind.dimensions)
        if dtype.kind == "i":
            drawn = _draw(f"{seed}/{name}", size * dtype.itemsize, dtype)
            found[name] = np.maximum(drawn, -np.iinfo(dtype).max).reshape(kind.dimensions)
        else:
            drawn = _draw(f"{seed}/{name}", size, np.dtype(np.int8)).reshape(kind.dimensions)
            found[name] = _float(shape, name, drawn, wide_embedding)
    return found


def _draw(text: str, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    data = hashlib.shake_128(text.encode()).digest(count)
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)


def _float(
    shape: Shape, name: str, drawn: NDArray[np.int8], wide_embedding: bool
) -> NDArray[np.float32]:
    """Small binary fractions from bytes, so that no step rounds."""
    part = drawn.astype(np.float32) / np.float32(128)  # -1 to 127/128
    if name.startswith("rope.") or name.endswith(".bias"):
        return part
    if not name.endswith(".scale"):
        return np.float32(1) + part / np.float32(4)
    if name == "embed.scale":
        exponent = -14 if wide_embedding else -6
    else:
        # About 1 / (74 * sqrt(inputs)), which keeps what a product gives near what it was given.
        exponent = -6 - shape.linear(name.split(".")[-2])[1].bit_length() // 2
    return (np.float32(1.5) + part / np.float32(2)) * np.float32(2.0**exponent)
