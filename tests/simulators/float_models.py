"""Float models small enough to convert in a second, written as Hugging Face writes them."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tiny_pair
from numpy.typing import NDArray

WIDTH, FFN, LAYERS, HEADS, KV_HEADS = 32, 48, 2, 4, 2
LOUD = (3, 17)
"""Channels whose gain is far above the others', as trained models have."""


def config(family: str, *, tied: bool, **changes: Any) -> dict[str, Any]:
    """A `config.json` of `family`, llama or qwen2."""
    return {
        "model_type": family,
        "vocab_size": tiny_pair.VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
    } | changes


def tensors(settings: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Weights for a configuration, the same on every machine."""
    head = settings["hidden_size"] // settings["num_attention_heads"]
    width, ffn = settings["hidden_size"], settings["intermediate_size"]
    rows = {"q": settings["num_attention_heads"] * head, "o": width}
    rows |= dict.fromkeys("kv", settings["num_key_value_heads"] * head)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (settings["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if not settings["tie_word_embeddings"]:
        shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    for layer in range(settings["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        for name, size in rows.items():
            shapes[f"{block}self_attn.{name}_proj.weight"] = (size, width)
            if settings["model_type"] == "qwen2" and name != "o":
                shapes[f"{block}self_attn.{name}_proj.bias"] = (size,)
        shapes |= {f"{block}mlp.{name}_proj.weight": (ffn, width) for name in ("gate", "up")}
        shapes[f"{block}mlp.down_proj.weight"] = (width, ffn)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{block}{name}.weight"] = (width,)
    return {name: _drawn(name, shape) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    data = hashlib.shake_128(name.encode()).digest(4 * math.prod(shape))
    bytes_4 = np.frombuffer(data, np.int8).astype(np.float32).reshape(4, *shape)
    near_normal = bytes_4.sum(axis=0) / np.float32(148)
    if not name.endswith("norm.weight"):
        return near_normal / np.float32(4)
    gains = np.float32(1) + near_normal / np.float32(4)
    gains[list(LOUD)] *= np.float32(24)
    return gains


def write(folder: Path, settings: dict[str, Any], **replaced: NDArray[Any]) -> Path:
    """A model folder; `replaced` tensors by name with dots as double underscores."""
    folder.mkdir(parents=True)
    tiny_pair.write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(settings))
    stored: dict[str, NDArray[Any]] = dict(tensors(settings))
    stored |= {name.replace("__", "."): array for name, array in replaced.items()}
    safetensors.numpy.save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
