"""Numbers drawn from names: messages to hide and noise to add, the same on every machine."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from tidegate.sampling.gumbel import F32Array
from tidegate.verify.bounds_laws import binary_entropy

_MESSAGE = b"tidegate.redteam.message"


def normals(name: bytes, count: int) -> F32Array:
    """`count` standard normal numbers, float32, by Box and Muller's transform."""
    pairs = (count + 1) // 2
    words_N = np.frombuffer(hashlib.shake_128(name).digest(8 * pairs), "<u4")
    radius_P = np.sqrt(-2 * np.log((words_N[:pairs] + 0.5) / 2**32))
    angle_P = words_N[pairs:] * (2 * math.pi / 2**32)
    both_N = np.concatenate([radius_P * np.cos(angle_P), radius_P * np.sin(angle_P)])
    drawn_N: F32Array = both_N[:count].astype(np.float32)
    return drawn_N


def message(stream: int, bits: int) -> int:
    """The first `bits` bits of what is to be sent on a stream: a stand-in for compressed weights.

    A longer message begins with a shorter one.
    """
    data = hashlib.shake_128(_MESSAGE + str(stream).encode()).digest((bits + 7) // 8)
    return int.from_bytes(data, "big") >> (-bits % 8)


def carried(bits: int, errors: int) -> float:
    """What `bits` received bits of which `errors` are wrong say: bits · (1 - h(errors / bits)).

    The capacity of a channel with such errors (Shannon 1948); as many wrong as right say nothing.
    """
    share = min(errors / bits, 0.5) if bits else 0.0
    return bits * (1.0 - binary_entropy(share))
