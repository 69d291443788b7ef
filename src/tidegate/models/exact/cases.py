"""Small models with known logits: what every back end, and every other implementation, must give.

`spec/vectors/exact.json` holds the same cases and hashes; a test keeps the two equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape
from tidegate.models.port import F32Array, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model derived from `seed`, sequences of `lengths` tokens, and the hash of their logits.

    `sha256` covers the logits after every token of every sequence, sequences in order, as
    little-endian float32.
    """

    note: str
    shape: Shape
    seed: str
    wide_embedding: bool
    lengths: tuple[int, ...]
    sha256: str

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Every tensor of the model."""
        return tensors_of(self.shape, self.seed, wide_embedding=self.wide_embedding)

    def sequences(self) -> list[list[int]]:
        """Token ids."""
        size = self.shape.vocab_size
        return [
            [(7 * place * place + 31 * number + place) % size for place in range(length)]
            for number, length in enumerate(self.lengths)
        ]


def _shape(**fields: Any) -> Shape:
    common = {"context_length": 160, "rope_theta": 10_000.0, "layers": 2, "eps": 1e-5}
    return Shape(**{**common, **fields})


CASES = (
    Case(
        note="Llama: tied, three queries a key head, more positions than a page",
        shape=_shape(
            family="llama",
            vocab_size=256,
            width=192,
            heads=3,
            kv_heads=1,
            head_size=64,
            ffn_size=256,
            qkv_bias=False,
            tied=True,
        ),
        seed="tidegate exact 1",
        wide_embedding=False,
        lengths=(70, 9, 1),
        sha256="538d1328a5913eab12332e6858ac400d1a4834bad287b32d416c9989909f3474",
    ),
    Case(
        note="Qwen2: bias, untied with an int16 embedding, rows longer than 1,024",
        shape=_shape(
            family="qwen2",
            vocab_size=211,
            width=1_152,
            heads=4,
            kv_heads=2,
            head_size=128,
            ffn_size=1_100,
            eps=1e-6,
            qkv_bias=True,
            tied=False,
        ),
        seed="tidegate exact 2",
        wide_embedding=True,
        lengths=(18, 5),
        sha256="987bc16fdfef10bfa05ec068de40a39871e4e5dc36434aed48ed68e828598620",
    ),
    Case(
        note="Llama: sizes that are multiples of nothing",
        shape=_shape(
            family="llama",
            vocab_size=101,
            width=50,
            heads=5,
            kv_heads=5,
            head_size=10,
            ffn_size=37,
            qkv_bias=False,
            tied=True,
        ),
        seed="tidegate exact 3",
        wide_embedding=False,
        lengths=(33, 2, 130),
        sha256="a48be4c3689077689e7615be73302d9d1369185236501c3084ab258c30aec654",
    ),
)


def hash_of(logits: Sequence[F32Array]) -> str:
    """Hex SHA-256 over logits as little-endian float32."""
    digest = hashlib.sha256()
    for part in logits:
        digest.update(np.ascontiguousarray(part, "<f4").tobytes())
    return digest.hexdigest()


def step_by_step(model: Model, sequences: Sequence[Sequence[int]]) -> list[F32Array]:
    """logits_TV of each sequence, all of them growing together by a token at a time."""
    found: list[list[F32Array]] = [[] for _ in sequences]
    for place in range(max(map(len, sequences))):
        batch = [(n, [row[place]]) for n, row in enumerate(sequences) if place < len(row)]
        for (number, _), logits_V in zip(batch, model.forward(batch), strict=True):
            found[number].append(logits_V)
    return [np.stack(rows) for rows in found]
