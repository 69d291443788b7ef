"""Rows of the embedding with Merkle paths: what a verifier without weights reads of it. Pure.

For each token that the model reads, ascending and once: the row's little-endian bytes, then its
path. The tree and its root are the owner's (`prove.keys`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.shape import Shape
from tidegate.prove.merkle import HASH_BYTES, Tree, included, leaf_hash, path_length
from tidegate.prove.verdict import FoundError, Place


def opened(rows_VD: NDArray[Any], tree: Tree, tokens: Iterable[int]) -> bytes:
    """The openings of some tokens' rows."""
    parts = []
    for token in sorted(set(tokens)):
        parts += [np.ascontiguousarray(rows_VD[token]).tobytes(), *tree.path(token)]
    return b"".join(parts)


class OpenedEmbedding:
    """`parameters.Embedding` over openings that were checked against the owner's root."""

    def __init__(
        self, q: Mapping[int, NDArray[Any]], scale_V: NDArray[np.float32], shape: Shape
    ) -> None:
        self._q = q
        self._scale_V = scale_V
        self._width = shape.width

    def rows(self, token_N: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """See `parameters.Embedding.rows`."""
        return np.stack([self._q[token] for token in token_N.tolist()]), self._scale_V[token_N]


def check(
    raw: bytes,
    tokens: list[int],
    shape: Shape,
    scale_V: NDArray[np.float32],
    root: bytes,
    number_bytes: int,
) -> OpenedEmbedding:
    """The rows in `raw` of the tokens the model read, in order of positions.

    Raises FoundError at `embedding`, with the first position that reads the row in question.
    """
    dtype = np.dtype({1: "i1", 2: "<i2"}[number_bytes])
    found: dict[int, NDArray[Any]] = {}
    at = 0
    for token in sorted(set(tokens)):
        place = Place(part="embedding", token=tokens.index(token))
        size = shape.width * number_bytes
        hashes = path_length(token, shape.vocab_size)
        end = at + size + HASH_BYTES * hashes
        if end > len(raw):
            raise FoundError(place, "the openings of the embedding are truncated")
        row, steps = raw[at : at + size], raw[at + size : end]
        path = [steps[i : i + HASH_BYTES] for i in range(0, len(steps), HASH_BYTES)]
        if not included(leaf_hash(row), token, shape.vocab_size, path, root):
            raise FoundError(place, "this row is not the owner's embedding of the token")
        found[token] = np.frombuffer(row, dtype)
        at = end
    if at != len(raw):
        raise FoundError(Place(part="embedding"), "more rows are opened than the model read")
    return OpenedEmbedding(found, scale_V, shape)
