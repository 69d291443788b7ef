"""Making fingerprints: from tensors' bytes to tags, a tensor at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import numpy as np

from tidegate.errors import ModelError
from tidegate.scan.fingerprint import Fingerprints, Places, Tensor, Words, kept, patterns
from tidegate.scan.weights import of_numbers

EVERY: Final = 64
_PIECE: Final = 1 << 22
"""Weights at a time; pieces overlap, so that no place is lost between two."""
_OVERLAP: Final = 64
_WIDTHS: Final = {"BF16": 2, "F16": 2, "F32": 4}


class Shape(msgspec.Struct, frozen=True):
    """One entry of a safetensors header (https://huggingface.co/docs/safetensors)."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def tensors_of(shard: str, header: bytes, begin: int) -> tuple[tuple[Tensor, int], ...]:
    """Tensors of one safetensors shard with how many bytes each has, of dtypes that have signs.

    `header` is its JSON text, `begin` where the data begin. Raises ModelError, naming the shard.
    """
    try:
        table = msgspec.json.decode(header, type=dict[str, Any])
        table.pop("__metadata__", None)
        shapes = msgspec.convert(table, dict[str, Shape])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ModelError(f"{shard} is no safetensors file: {error}", file=shard) from error
    return tuple(
        (
            Tensor(name, shard, begin + shape.data_offsets[0], _WIDTHS[shape.dtype]),
            shape.data_offsets[1] - shape.data_offsets[0],
        )
        for name, shape in sorted(shapes.items(), key=lambda item: item[1].data_offsets)
        if shape.dtype in _WIDTHS
    )


def make(
    model: str,
    tensors: Iterable[tuple[Tensor, bytes | memoryview]],
    key: bytes,
    *,
    every: int = EVERY,
) -> Fingerprints:
    """Fingerprints of tensors given with their bytes. Raises ModelError where none has signs."""
    named: list[Tensor] = []
    tags: list[Words] = []
    places: list[Places] = []
    for tensor, data in tensors:
        for at_N, tag_N in _pieces(tensor, data, key, every):
            tags.append(tag_N)
            places.append(at_N + (len(named) << 40))
        named.append(tensor)
    if not tags:
        raise ModelError(f"{model} has no weights of {', '.join(_WIDTHS)} to fingerprint")
    tag_N, place_N = np.concatenate(tags), np.concatenate(places)
    order = np.argsort(tag_N, kind="stable")
    return Fingerprints(model, every, key, tuple(named), tag_N[order], place_N[order])


def _pieces(
    tensor: Tensor, data: bytes | memoryview, key: bytes, every: int
) -> Iterator[tuple[Places, Words]]:
    raw_B = np.frombuffer(data, np.uint8)
    for first in range(0, max(1, len(raw_B) // tensor.width - _OVERLAP), _PIECE):
        piece_B = raw_B[first * tensor.width : (first + _PIECE + _OVERLAP) * tensor.width]
        pattern_T = patterns(of_numbers(piece_B, tensor.width))[:_PIECE]
        at_N, tag_N = kept(pattern_T, key, every)
        yield at_N + first, tag_N
