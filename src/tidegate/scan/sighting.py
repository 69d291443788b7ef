"""What the scanner says it saw."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a stretch of bytes is taken for, from the surest to the least sure."""

    OWN_WEIGHTS = "own-weights"
    """Bytes of a model whose fingerprints the scanner holds."""
    MODEL_FILE = "model-file"
    """The header of a format that models are kept in."""
    WEIGHTS = "weights"
    """Numbers laid out as tensors are."""
    OPAQUE = "opaque"
    """Nothing a reader could use and nothing that compresses: encrypted, compressed, or weights
    quantised so well that they cannot be told from either."""
    BOMB = "bomb"
    """Wrapped so deep, or unpacking to so much, that looking on was refused."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the owner's own files a leaked piece comes from; `offset` in bytes of the shard."""

    model: str
    shard: str
    tensor: str
    offset: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """One stretch of a stream that looks like weights.

    Args:
        offset: where it begins in the stream as fed, in bytes; exact where nothing was unwrapped,
            else the block of at most 256 KiB that its bytes, or the last of them, came from.
        length: how far it reaches there.
        kind: what it is taken for.
        detector: what found it: `fingerprint`, `header`, `tensor-statistics`, `lz-gain`, `limits`.
        score: how far beyond the threshold, in the detector's own unit: matching places, bits a
            byte, or times the limit.
        explanation: a sentence for people.
        layers: what was unwrapped to get there, outermost first.
        weight: the place in the owner's files, for `own-weights` only.
    """

    offset: int
    length: int
    kind: Kind
    detector: str
    score: float
    explanation: str
    layers: tuple[str, ...] = ()
    weight: Place | None = None
