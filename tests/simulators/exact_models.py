"""Small exact models on any back end, derived from seeds."""

from __future__ import annotations

from typing import Any

from tidegate.models.exact.backends import build
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.ops import Linear, Ops
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape, check
from tidegate.models.port import ModelInfo

INFO = ModelInfo(name="seeded", parameters=1, licence="none", provenance="a seed", numerics="exact")


def shape_of(**changes: Any) -> Shape:
    """A small Llama, with some fields changed."""
    fields = {
        "family": "llama",
        "vocab_size": 97,
        "width": 48,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 16,
        "ffn_size": 80,
        "context_length": 300,
        "eps": 1e-5,
        "rope_theta": 10_000.0,
        "qkv_bias": False,
        "tied": True,
    }
    return check(Shape(**{**fields, **changes}))


def tensors(shape: Shape) -> dict[str, Any]:
    """Its weights; an untied embedding is int16."""
    return tensors_of(shape, "test", wide_embedding=not shape.tied)


def model_of(
    shape: Shape,
    backend: str = "native-avx2",
    *,
    threads: int = 1,
    pass_rows: int = 256,
    weights: dict[str, Any] | None = None,
    linear: Linear | None = None,
    ops: Ops | None = None,
) -> ExactModel:
    """A model on a back end; `linear` or `ops` replace the back end's own."""
    weights = weights or tensors(shape)
    parameters = parameters_of(shape, weights)
    engine = build(backend, parameters, weights, threads=threads)
    return ExactModel(
        parameters,
        linear or engine.linear,
        ops or engine.ops,
        info=INFO,
        fingerprint="test",
        eos_ids=frozenset({2}),
        pass_rows=pass_rows,
    )
