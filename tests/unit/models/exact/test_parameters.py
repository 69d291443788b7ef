"""Damaged tensors are refused by name before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exact_models import shape_of, tensors

from tidegate.errors import ModelError
from tidegate.models.exact.parameters import check, expected, parameters_of, weight_name
from tidegate.models.exact.shape import HEAD

SHAPE = shape_of(family="qwen2", qkv_bias=True, tied=False)

Weights = dict[str, Any]


def test_what_was_derived_is_accepted():
    weights = tensors(SHAPE)
    check(SHAPE, weights)
    assert weights.keys() == expected(SHAPE).keys()
    assert weights["embed.weight"].dtype == np.int16


def _put(name: str, place: tuple[int, ...], value: float) -> Callable[[Weights], None]:
    def damage(weights: Weights) -> None:
        weights[name][place] = value

    return damage


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("layers.1.qkv.scale", _put("layers.1.qkv.scale", (3,), np.nan)),
        ("layers.0.down.scale", _put("layers.0.down.scale", (0,), np.inf)),
        ("layers.0.o.scale", _put("layers.0.o.scale", (0,), -0.5)),
        ("layers.0.qkv.bias", _put("layers.0.qkv.bias", (0,), -np.inf)),
        ("layers.0.mlp_norm", _put("layers.0.mlp_norm", (1,), 2.0**21)),
        ("norm", _put("norm", (0,), np.nan)),
        ("embed.scale", _put("embed.scale", (5,), np.nan)),
        ("rope.cos", _put("rope.cos", (0, 0), 1.5)),
        ("layers.1.gate_up.weight", _put("layers.1.gate_up.weight", (0, 0), -128)),
        ("embed.weight", _put("embed.weight", (0, 0), -32768)),
        ("head.weight", lambda weights: weights.pop("head.weight")),
        ("layers.9.o.weight", lambda weights: weights.update({"layers.9.o.weight": None})),
        (
            "layers.0.o.weight",
            lambda weights: weights.update({"layers.0.o.weight": np.zeros((48, 63), np.int8)}),
        ),
        (
            "layers.0.o.weight",
            lambda weights: weights.update({"layers.0.o.weight": np.zeros((48, 64), np.int16)}),
        ),
    ],
)
def test_damage_is_refused_by_file_and_tensor(name: str, damage: Callable[[Weights], None]):
    weights = {key: value.copy() for key, value in tensors(SHAPE).items()}
    damage(weights)
    with pytest.raises(ModelError, match=name) as refused:
        check(SHAPE, weights, "folder/model.safetensors")
    assert refused.value.details["tensor"] == name
    assert "folder/model.safetensors" in refused.value.message


def test_a_tied_embedding_is_the_heads_weight_and_must_be_int8():
    tied = shape_of()
    assert weight_name(tied, tied.layers, HEAD) == "embed.weight"
    assert weight_name(SHAPE, SHAPE.layers, HEAD) == "head.weight"
    weights = tensors(tied) | {"embed.weight": np.zeros((97, 48), np.int16)}
    with pytest.raises(ModelError, match=r"embed\.weight"):
        check(tied, weights)


def test_parameters_hold_no_weight():
    weights = tensors(SHAPE)
    only = {name: value for name, value in weights.items() if not name.endswith(".weight")}

    class Nothing:
        def rows(self, token_N: Any) -> Any:
            raise NotImplementedError

    parameters = parameters_of(SHAPE, only, Nothing())
    assert parameters.layers[1].qkv.bias is weights["layers.1.qkv.bias"]
    assert parameters.head.scale is weights["head.scale"]
