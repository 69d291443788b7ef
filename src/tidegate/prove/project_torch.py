"""T2's recorder on an existing transformers server: hooks that note what linear layers compute.

The server's arithmetic stays as it is; only its inputs and outputs are copied, as float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from tidegate.models.exact.shape import HEAD, Shape
from tidegate.models.transformers_torch import TransformersModel
from tidegate.prove.answer import Detokenise
from tidegate.prove.produce import generate
from tidegate.prove.project import F32Array, name_of
from tidegate.prove.statement import Request, Statement

_PARTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


def record(
    model: TransformersModel, shape: Shape, request: Request, detokenise: Detokenise
) -> tuple[Statement, dict[str, F32Array]]:
    """Answer a request; the statement and the trace that `monitor.verify` reads."""
    with _watched(model.module, shape) as seen:
        statement = generate(model, [request], detokenise)[0]
    trace = {}
    for layer, op in shape.products():
        parts = [seen[module] for module in _modules(layer, op)]
        name = name_of(layer, op)
        trace[f"{name}.x"] = np.concatenate([x for x, _ in parts[0]])
        trace[f"{name}.y"] = np.concatenate(
            [np.concatenate([y for _, y in part]) for part in parts], axis=1
        )
    return statement, trace


@contextmanager
def _watched(
    module: torch.nn.Module, shape: Shape
) -> Iterator[dict[str, list[tuple[F32Array, F32Array]]]]:
    """What each linear layer reads and says, a pair a call, while the context is open."""
    seen: dict[str, list[tuple[F32Array, F32Array]]] = {}
    hooks = []
    for layer, op in shape.products():
        for name in _modules(layer, op):
            calls = seen[name] = []

            def note(
                _: Any,
                inputs: tuple[torch.Tensor, ...],
                output: torch.Tensor,
                calls: list[tuple[F32Array, F32Array]] = calls,
            ) -> None:
                calls.append((_rows(inputs[0]), _rows(output)))

            hooks.append(module.get_submodule(name).register_forward_hook(note))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _rows(tensor: torch.Tensor) -> F32Array:
    rows: F32Array = tensor.detach().float().reshape(-1, tensor.shape[-1]).cpu().numpy().copy()
    return rows


def _modules(layer: int, op: str) -> list[str]:
    if op == HEAD:
        return ["lm_head"]
    return [f"model.layers.{layer}.{part}" for part in _PARTS[op]]
