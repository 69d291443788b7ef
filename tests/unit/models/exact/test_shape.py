"""What the exact engine runs, and that it says what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from exact_models import shape_of

from tidegate.errors import ModelError
from tidegate.models.exact.shape import MAX_INPUTS, Shape, from_config, to_config

LLAMA = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
}


def test_a_configuration_gives_the_shape_it_describes():
    shape = from_config(LLAMA)
    assert (shape.head_size, shape.qkv_bias, shape.tied) == (64, False, True)
    assert shape.rope_theta == 100000.0
    assert shape.parameters == 134_515_008
    assert from_config({**LLAMA, "model_type": "qwen2"}).qkv_bias
    newer = {**LLAMA, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}
    assert from_config(newer).rope_theta == 5000.0


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_shape_survives_its_configuration(family: str):
    shape = shape_of(family=family, qkv_bias=family == "qwen2", tied=False, eps=1e-6)
    assert from_config(to_config(shape)) == shape


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "mamba"),
        ("model_type", None),
        ("hidden_act", "gelu"),
        ("mlp_bias", True),
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("use_sliding_window", True),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("rope_scaling", "linear"),
        ("rope_parameters", {"rope_type": "llama3", "rope_theta": 1.0}),
        ("quantization_config", {"bits": 4}),
        ("partial_rotary_factor", 0.5),
        ("vocab_size", "49152"),
        ("hidden_size", None),
        ("num_hidden_layers", True),
        ("rms_norm_eps", None),
    ],
)
def test_what_is_not_specified_is_refused_by_field_and_file(field: str, value: Any):
    with pytest.raises(ModelError, match=field) as refused:
        from_config({**LLAMA, field: value}, "somewhere/config.json")
    assert "somewhere/config.json" in refused.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 65_537},
        {"ffn_size": MAX_INPUTS + 1},
        {"head_size": 130},
        {"head_size": 15},
        {"heads": 1_026, "kv_heads": 1_026, "head_size": 128},
        {"heads": 5, "kv_heads": 2},
        {"layers": 0},
        {"context_length": (1 << 20) + 1},
        {"vocab_size": 0},
        {"eps": 0.0},
        {"eps": float("nan")},
        {"rope_theta": float("inf")},
        {"family": "gpt2"},
    ],
)
def test_a_shape_beyond_exactness_is_refused(changes: dict[str, Any]):
    with pytest.raises(ModelError, match=r"cannot run") as refused:
        shape_of(**changes)
    assert refused.value.details["field"]


def test_the_bounds_are_the_points_where_sums_stop_fitting():
    assert 127**2 * MAX_INPUTS < 2**31
    assert shape_of(ffn_size=MAX_INPUTS).linear("down") == (48, MAX_INPUTS)
    assert 4095**2 * 128 < 2**31 <= 4095**2 * 129
    assert 16 * 32767 * 4095 < 2**31 <= 17 * 32767 * 4095
    assert 127**2 * 1_024 < 2**24


def test_products_come_in_the_order_they_run():
    shape: Shape = shape_of(layers=2)
    assert [op for layer, op in shape.products() if layer == 1] == ["qkv", "o", "gate_up", "down"]
    assert shape.products()[-1] == (2, "head")
