"""The tensors of a converted model: names, types and ranges; and the part a pass needs of them.

`Parameters` holds no weight: whoever has it and the products can recompute a pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ModelError
from tidegate.models.exact.ops import Array, Channels
from tidegate.models.exact.shape import HEAD, LAYER_OPS, Shape

Tensors = Mapping[str, NDArray[Any]]

LARGEST_SCALE = 2.0**20
"""Scales, gains and biases beyond this come from damage, not from training."""


class Expected(NamedTuple):
    """Types one of which a tensor has, and its dimensions."""

    dtypes: tuple[str, ...]
    dimensions: tuple[int, ...]


def expected(shape: Shape) -> dict[str, Expected]:
    """Every tensor of a converted folder by name."""
    floats, ints = ("float32",), ("int8",)
    wide = ("int8",) if shape.tied else ("int8", "int16")
    half = shape.head_size // 2
    tensors = {
        "embed.weight": Expected(wide, (shape.vocab_size, shape.width)),
        "embed.scale": Expected(floats, (shape.vocab_size,)),
        "norm": Expected(floats, (shape.width,)),
        "rope.cos": Expected(floats, (shape.context_length, half)),
        "rope.sin": Expected(floats, (shape.context_length, half)),
    }
    for layer in range(shape.layers):
        place = f"layers.{layer}."
        tensors[place + "attn_norm"] = tensors[place + "mlp_norm"] = tensors["norm"]
        for op in LAYER_OPS:
            outputs, inputs = shape.linear(op)
            tensors[f"{place}{op}.weight"] = Expected(ints, (outputs, inputs))
            tensors[f"{place}{op}.scale"] = Expected(floats, (outputs,))
        if shape.qkv_bias:
            tensors[place + "qkv.bias"] = Expected(floats, (shape.linear("qkv")[0],))
    if not shape.tied:
        tensors["head.weight"] = Expected(ints, shape.linear(HEAD))
        tensors["head.scale"] = Expected(floats, (shape.vocab_size,))
    return tensors


def check(
    shape: Shape, tensors: Tensors, file: str = "", only: Collection[str] | None = None
) -> None:
    """Raise ModelError, naming `file` and tensor, unless every tensor is there and in range.

    With `only`, those tensors have to be there and no other.

    In range means: weights within ±127 (int16: ±32767), floats finite and at most LARGEST_SCALE,
    scales not negative, cosines and sines within ±1.
    """
    wanted = expected(shape)
    if only is not None:
        wanted = {name: kind for name, kind in wanted.items() if name in only}
    if strange := sorted(tensors.keys() - wanted.keys()):
        raise _damaged(file, strange[0], "it belongs to no such model")
    for name, kind in wanted.items():
        if name not in tensors:
            raise _damaged(file, name, "it is missing")
        tensor = tensors[name]
        if tensor.dtype.name not in kind.dtypes or tensor.shape != kind.dimensions:
            found = f"{tensor.dtype.name} {list(tensor.shape)}"
            raise _damaged(
                file, name, f"it is {found}, not {kind.dtypes[0]} {list(kind.dimensions)}"
            )
        _check_range(file, name, tensor)


def _check_range(file: str, name: str, tensor: NDArray[Any]) -> None:
    if tensor.dtype.kind == "i":
        if tensor.min() == np.iinfo(tensor.dtype).min:
            raise _damaged(file, name, f"it holds {tensor.min()}; the range is symmetric")
        return
    most = 1.0 if name.startswith("rope.") else LARGEST_SCALE
    # Written so that NaN fails too.
    if not np.abs(tensor).max() <= most:
        raise _damaged(file, name, f"it holds a value that is no number or beyond ±{most:g}")
    if name.endswith(".scale") and tensor.min() < 0:
        raise _damaged(file, name, "it holds a negative scale")


def _damaged(file: str, name: str, why: str) -> ModelError:
    where = f"{file}: " if file else ""
    return ModelError(f"{where}tensor {name}: {why}", file=file, tensor=name)


class Embedding(Protocol):
    """Looks up rows of the embedding; a verifier's checks a Merkle path on the way."""

    def rows(self, token_N: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """(q_ND int8 or int16, scale_N float32) of some tokens."""
        ...


@dataclass(frozen=True, slots=True)
class TableEmbedding:
    """An embedding that is at hand in full: q_VD int8 or int16, scale_V."""

    q_VD: NDArray[Any]
    scale_V: NDArray[np.float32]

    def rows(self, token_N: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        return self.q_VD[token_N], self.scale_V[token_N]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """One layer without its weights. Gains are (width,) float32."""

    attn_norm: Array
    mlp_norm: Array
    qkv: Channels
    o: Channels
    gate_up: Channels
    down: Channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything a pass needs besides products. `cos_TR`, `sin_TR`: R = half a head."""

    shape: Shape
    embedding: Embedding
    layers: tuple[LayerParameters, ...]
    norm: Array
    head: Channels
    cos_TR: Array
    sin_TR: Array


def parameters_of(shape: Shape, tensors: Tensors, embedding: Embedding | None = None) -> Parameters:
    """The part of a converted model that is no weight; takes checked tensors.

    `embedding` replaces the table, whose tensors then need not be there.
    """

    def channels(place: str) -> Channels:
        return Channels(tensors[f"{place}.scale"], tensors.get(f"{place}.bias"))

    layers = tuple(
        LayerParameters(
            attn_norm=tensors[f"layers.{layer}.attn_norm"],
            mlp_norm=tensors[f"layers.{layer}.mlp_norm"],
            **{op: channels(f"layers.{layer}.{op}") for op in LAYER_OPS},
        )
        for layer in range(shape.layers)
    )
    return Parameters(
        shape=shape,
        embedding=embedding or TableEmbedding(tensors["embed.weight"], tensors["embed.scale"]),
        layers=layers,
        norm=tensors["norm"],
        head=channels("embed" if shape.tied else HEAD),
        cos_TR=tensors["rope.cos"],
        sin_TR=tensors["rope.sin"],
    )


def weight_name(shape: Shape, layer: int, op: str) -> str:
    """The tensor that `op` of `layer` multiplies by."""
    if op == HEAD:
        return "embed.weight" if shape.tied else "head.weight"
    return f"layers.{layer}.{op}.weight"
