"""The numbers that fix a model's architecture, and what the exact engine can run.

Every limit is the point up to which some sum of the specification is exact (spec/exact.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from tidegate.errors import ModelError

LAYER_OPS = ("qkv", "o", "gate_up", "down")
"""The four products of a layer, in the order they run."""

HEAD = "head"
"""The product that gives the logits; its layer number is `Shape.layers`."""

MAX_INPUTS = 131_072
"""127² · MAX_INPUTS < 2³¹: a row of int8 products fits int32."""

MAX_WIDTH = 65_536
"""(2²³)² · MAX_WIDTH = 2⁶²: a sum of squares fits int64."""

MAX_HEAD_SIZE = 128
"""4095² · MAX_HEAD_SIZE < 2³¹: a product of query and key fits int32."""

MAX_CONTEXT = 1 << 20
"""32767 · 4095 · MAX_CONTEXT < 2⁴⁷: attention's sums fit int64, and float64 exactly."""

MAX_VOCABULARY = 1 << 20
MAX_LAYERS = 1_024

_FAMILIES = {"llama": False, "qwen2": True}
"""`model_type` → whether q, k and v have a bias unless the configuration says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder of the Llama family. Sizes in elements, `context_length` in tokens.

    `kv_heads` divides `heads`. `tied` says that the embedding is also the head's weight.
    """

    family: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    ffn_size: int
    context_length: int
    eps: float
    rope_theta: float
    qkv_bias: bool
    tied: bool

    def linear(self, op: str) -> tuple[int, int]:
        """(outputs, inputs) of one of LAYER_OPS or of HEAD."""
        return {
            "qkv": ((self.heads + 2 * self.kv_heads) * self.head_size, self.width),
            "o": (self.width, self.heads * self.head_size),
            "gate_up": (2 * self.ffn_size, self.width),
            "down": (self.width, self.ffn_size),
            HEAD: (self.vocab_size, self.width),
        }[op]

    def products(self) -> list[tuple[int, str]]:
        """(layer, op) of every product of a forward pass, in the order they run."""
        body = [(layer, op) for layer in range(self.layers) for op in LAYER_OPS]
        return [*body, (self.layers, HEAD)]

    @property
    def parameters(self) -> int:
        """Learned numbers: weights, gains and biases, without scales."""
        body = sum(math.prod(self.linear(op)) for op in LAYER_OPS)
        bias = self.linear("qkv")[0] if self.qkv_bias else 0
        ends = self.vocab_size * self.width * (1 if self.tied else 2)
        return self.layers * (body + bias + 2 * self.width) + self.width + ends


def check(shape: Shape, file: str = "") -> Shape:
    """`shape` itself, if the exact engine can run it.

    Raises ModelError naming `file` and the field that is beyond a limit.
    """

    def demand(holds: bool, field: str, sentence: str) -> None:
        if not holds:
            raise ModelError(
                f"the exact engine cannot run {file or 'this shape'}: {field} is "
                f"{getattr(shape, field)}, {sentence}",
                file=file,
                field=field,
            )

    demand(shape.family in _FAMILIES, "family", f"known are {', '.join(sorted(_FAMILIES))}")
    for field, most in (
        ("vocab_size", MAX_VOCABULARY),
        ("width", MAX_WIDTH),
        ("layers", MAX_LAYERS),
        ("heads", MAX_WIDTH),
        ("kv_heads", MAX_WIDTH),
        ("ffn_size", MAX_INPUTS),
        ("head_size", MAX_HEAD_SIZE),
        ("context_length", MAX_CONTEXT),
    ):
        demand(1 <= getattr(shape, field) <= most, field, f"allowed are 1 to {most}")
    demand(shape.head_size % 2 == 0, "head_size", "rotation needs an even number")
    demand(shape.heads % shape.kv_heads == 0, "kv_heads", f"which does not divide {shape.heads}")
    inputs = shape.heads * shape.head_size
    demand(inputs <= MAX_INPUTS, "heads", f"{inputs} inputs of `o` exceed {MAX_INPUTS}")
    demand(0 < shape.eps < 1, "eps", "allowed is what lies between 0 and 1")
    demand(1 < shape.rope_theta < math.inf, "rope_theta", "allowed is what is finite and above 1")
    return shape


def from_config(config: Mapping[str, object], file: str = "config.json") -> Shape:
    """The shape that a Hugging Face `config.json` describes.

    Raises ModelError naming `file` and the field where it is missing, of the wrong type, or asks
    for something that the exact engine does not do.
    """
    read = _Reader(config, file)
    family = read.text("model_type")
    if family not in _FAMILIES:
        read.refuse("model_type", f"known are {', '.join(sorted(_FAMILIES))}")
    if config.get("hidden_act", "silu") != "silu":
        read.refuse("hidden_act", "only silu is specified")
    if config.get("mlp_bias"):
        read.refuse("mlp_bias", "only q, k and v may have a bias")
    kinds = config.get("layer_types") or ()
    if not isinstance(kinds, list | tuple) or any(kind != "full_attention" for kind in kinds):
        read.refuse("layer_types", "every layer needs full attention")
    if config.get("use_sliding_window"):
        read.refuse("use_sliding_window", "every layer needs full attention")
    for field in ("quantization_config", "partial_rotary_factor"):
        if config.get(field) not in (None, 1.0):
            read.refuse(field, "this is not supported")
    # Llama's flag puts a bias on o as well; the converter refuses it by the tensor's name.
    bias = config.get("attention_bias", _FAMILIES[family])
    heads, width = read.number("num_attention_heads"), read.number("hidden_size")
    return check(
        Shape(
            family=family,
            vocab_size=read.number("vocab_size"),
            width=width,
            layers=read.number("num_hidden_layers"),
            heads=heads,
            kv_heads=read.number("num_key_value_heads", heads),
            head_size=read.number("head_dim", width // max(heads, 1)),
            ffn_size=read.number("intermediate_size"),
            context_length=read.number("max_position_embeddings"),
            eps=read.real(config, "rms_norm_eps"),
            rope_theta=_theta(read),
            qkv_bias=bool(bias),
            tied=bool(config.get("tie_word_embeddings", False)),
        ),
        file,
    )


def to_config(shape: Shape) -> dict[str, object]:
    """What `from_config` reads back as the same shape."""
    return {
        "model_type": shape.family,
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "intermediate_size": shape.ffn_size,
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": shape.eps,
        "rope_parameters": {"rope_theta": shape.rope_theta, "rope_type": "default"},
        "hidden_act": "silu",
        "attention_bias": shape.qkv_bias,
        "tie_word_embeddings": shape.tied,
    }


def _theta(read: _Reader) -> float:
    """The base of the rotation, where older and newer configurations put it."""
    for field in ("rope_parameters", "rope_scaling"):
        nested = read.config.get(field)
        if nested is None:
            continue
        if not isinstance(nested, Mapping):
            read.refuse(field, "it is not an object")
        if nested.get("rope_type", nested.get("type", "default")) != "default":
            read.refuse(field, "only the default rotation is specified")
        if "rope_theta" in nested:
            return read.real(nested, "rope_theta")
    return read.real(read.config, "rope_theta", 10_000.0)


class _Reader:
    """Typed access to a configuration; refusals name file and field."""

    def __init__(self, config: Mapping[str, object], file: str) -> None:
        self.config = config
        self.file = file

    def refuse(self, field: str, why: str) -> NoReturn:
        raise ModelError(
            f"the exact engine cannot run {self.file}: {field} is "
            f"{self.config.get(field)!r}; {why}",
            file=self.file,
            field=field,
        )

    def text(self, field: str) -> str:
        value = self.config.get(field)
        if not isinstance(value, str):
            self.refuse(field, "a name is needed")
        return value

    def number(self, field: str, default: int | None = None) -> int:
        value = self.config.get(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(field, "a whole number is needed")
        return value

    def real(self, place: Mapping[str, object], field: str, default: float | None = None) -> float:
        value = place.get(field, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.refuse(field, "a number is needed")
        return float(value)
