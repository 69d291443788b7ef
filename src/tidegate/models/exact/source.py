"""A float model as the converter reads it: configuration, tensors by role, tokenizer files.

Hugging Face's layout and names, in safetensors, for Llama- and Qwen2-type models. Everything that
can be wrong with a source is found here, before anything is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidegate.errors import ModelError
from tidegate.models import tokenizer
from tidegate.models.exact.parameters import LARGEST_SCALE
from tidegate.models.exact.shape import HEAD, Shape, from_config
from tidegate.models.exact.tensorfile import F32Array, Stored, open_tensors
from tidegate.models.prepared import TOKENIZER_FILES, Manifest, manifest_of
from tidegate.models.tokenizer import FileTokenizer

_PADDING = 1_024
"""Most rows of an embedding that no token may use; vocabularies are padded for speed."""

_PARTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_NORMS = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
_IGNORED = re.compile(r".*rotary_emb\.inv_freq|.*masked_bias")


@dataclass(frozen=True, slots=True)
class Source:
    """A float model, every tensor there and of the right shape. Values are checked when read."""

    folder: Path
    manifest: Manifest
    shape: Shape
    config: Mapping[str, object]
    tokenizer: FileTokenizer
    _tensors: Mapping[str, Stored]

    def weight(self, layer: int, op: str) -> F32Array:
        """w_OK of a layer's product, or of the head; a float32 copy. Raises ModelError."""
        if op == HEAD:
            return self._read(_head_name(self.shape))
        return np.concatenate([self._read(name) for name in _names(layer, op, "weight")])

    def bias(self, layer: int) -> F32Array:
        """The bias of q, k and v, (O,). Raises ModelError."""
        return np.concatenate([self._read(name) for name in _names(layer, "qkv", "bias")])

    def norm(self, layer: int, name: str) -> F32Array:
        """A gain, (width,): `attn_norm` or `mlp_norm` of a layer. Raises ModelError."""
        return self._read(f"model.layers.{layer}.{_NORMS[name]}.weight")

    def last_norm(self) -> F32Array:
        """The gain before the head, (width,). Raises ModelError."""
        return self._read("model.norm.weight")

    def embedding(self) -> F32Array:
        """One row a token, VD. Raises ModelError."""
        return self._read("model.embed_tokens.weight")

    def _read(self, name: str) -> F32Array:
        stored = self._tensors[name]
        values = stored.float32()
        if np.abs(values).max() > LARGEST_SCALE:
            raise ModelError(
                f"{stored.file}: tensor {name} holds a value beyond ±{LARGEST_SCALE:g}, which "
                "comes from damage, not from training",
                file=str(stored.file),
                tensor=name,
            )
        return values

    def tokenizer_files(self) -> dict[str, bytes]:
        """Tokenizer, chat template and generation settings by name, as they are."""
        names = sorted(TOKENIZER_FILES - {"config.json"})
        return {n: (self.folder / n).read_bytes() for n in names if (self.folder / n).is_file()}


def open_source(folder: Path, max_context: int) -> Source:
    """Open a model folder, every file's hash checked first.

    `max_context` bounds the context the engine will have tables for. Raises ModelError or
    IntegrityError naming file and tensor for what is missing, damaged, not supported or too large.
    """
    manifest = manifest_of(folder)
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{folder} has no config.json; is it a model folder?") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", file=str(path)) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object", file=str(path))
    longest = config.get("max_position_embeddings")
    bounded = dict(config)
    if isinstance(longest, int):
        bounded["max_position_embeddings"] = min(longest, max_context)
    shape = from_config(bounded, str(path))
    tensors = _all_tensors(folder)
    # Llama's and Qwen's files leave the head out where it is tied, whatever the configuration says.
    _check(folder, shape, tensors)
    words = tokenizer.load(folder)
    _check_tokenizer(folder, shape, words)
    return Source(folder, manifest, shape, config, words, tensors)


def _all_tensors(folder: Path) -> dict[str, Stored]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no safetensors; other weights are not read")
    tensors: dict[str, Stored] = {}
    for file in files:
        for name, tensor in open_tensors(file).items():
            if name in tensors:
                raise ModelError(
                    f"{file}: tensor {name} is in {tensors[name].file.name} as well",
                    file=str(file),
                    tensor=name,
                )
            tensors[name] = tensor
    return {name: stored for name, stored in tensors.items() if not _IGNORED.fullmatch(name)}


def _check(folder: Path, shape: Shape, tensors: Mapping[str, Stored]) -> None:
    wanted = _expected(shape)
    for name, sizes in wanted.items():
        found = tensors.get(name)
        if found is None:
            raise ModelError(f"{folder} lacks tensor {name}", file=str(folder), tensor=name)
        if found.raw.shape != sizes:
            raise ModelError(
                f"{found.file}: tensor {name} has shape {list(found.raw.shape)}, where config.json "
                f"asks for {list(sizes)}",
                file=str(found.file),
                tensor=name,
            )
    for name in sorted(tensors.keys() - wanted.keys()):
        if shape.tied and name == "lm_head.weight":
            continue  # a copy of the embedding
        raise ModelError(
            f"{tensors[name].file}: tensor {name} belongs to no model of type {shape.family} that "
            "the exact engine runs",
            file=str(tensors[name].file),
            tensor=name,
        )


def _expected(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor of a source."""
    width, head = shape.width, shape.head_size
    rows = {"q": shape.heads * head, "k": shape.kv_heads * head, "v": shape.kv_heads * head}
    tensors: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (shape.vocab_size, width),
        "model.norm.weight": (width,),
    }
    if not shape.tied:
        tensors["lm_head.weight"] = (shape.vocab_size, width)
    for layer in range(shape.layers):
        for name, size in zip(_names(layer, "qkv", "weight"), rows.values(), strict=True):
            tensors[name] = (size, width)
        if shape.qkv_bias:
            for name, size in zip(_names(layer, "qkv", "bias"), rows.values(), strict=True):
                tensors[name] = (size,)
        for name in _names(layer, "gate_up", "weight"):
            tensors[name] = (shape.ffn_size, width)
        for op in ("o", "down"):
            tensors[_names(layer, op, "weight")[0]] = shape.linear(op)
        for name in _NORMS.values():
            tensors[f"model.layers.{layer}.{name}.weight"] = (width,)
    return tensors


def _names(layer: int, op: str, kind: str) -> list[str]:
    return [f"model.layers.{layer}.{part}.{kind}" for part in _PARTS[op]]


def _head_name(shape: Shape) -> str:
    return "model.embed_tokens.weight" if shape.tied else "lm_head.weight"


def _check_tokenizer(folder: Path, shape: Shape, words: FileTokenizer) -> None:
    spare = shape.vocab_size - words.vocab_size
    if not 0 <= spare <= _PADDING:
        raise ModelError(
            f"{folder / 'tokenizer.json'} has {words.vocab_size} tokens and the model "
            f"{shape.vocab_size}: they do not belong together",
            file=str(folder / "tokenizer.json"),
        )
    if not words.eos_ids or max(words.eos_ids) >= shape.vocab_size:
        raise ModelError(
            f"{folder} does not say which of the model's tokens ends an answer",
            file=str(folder / "tokenizer.json"),
        )
