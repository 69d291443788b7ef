"""The embedding of a verifier without weights: rows that came with Merkle paths. Pure.

For each token that the model reads, ascending and once: the row's little-endian bytes, then its
path. The tree and its root are the owner's (`prove.keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.shape import Shape
from tidegate.prove.merkle import OpeningError, open_rows, opened_bytes
from tidegate.prove.trace import Read
from tidegate.prove.verdict import FoundError, Place


class OpenedEmbedding:
    """`parameters.Embedding` over openings that were checked against the owner's root."""

    def __init__(self, q: Mapping[int, NDArray[Any]], scale_V: NDArray[np.float32]) -> None:
        self._q = q
        self._scale_V = scale_V

    def rows(self, token_N: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """See `parameters.Embedding.rows`."""
        return np.stack([self._q[token] for token in token_N.tolist()]), self._scale_V[token_N]


def check(
    read: Read,
    tokens: list[int],
    shape: Shape,
    scale_V: NDArray[np.float32],
    root: bytes,
    number_bytes: int,
) -> OpenedEmbedding:
    """The opened rows of the tokens the model read, in order of positions.

    Raises FoundError at `embedding`, with the first position that reads the row in question.
    """
    dtype = np.dtype({1: "i1", 2: "<i2"}[number_bytes])
    most = opened_bytes(tokens, shape.vocab_size, shape.width * number_bytes)
    raw = bytes(read(0, most + 1))
    try:
        found = open_rows(raw, tokens, shape.vocab_size, shape.width * number_bytes, root)
    except OpeningError as error:
        token = None if error.number is None else tokens.index(error.number)
        raise FoundError(Place(part="embedding", token=token), error.reason) from error
    return OpenedEmbedding({t: np.frombuffer(row, dtype) for t, row in found.items()}, scale_V)
