"""The stacks that the verify bench serves and verifies with, each opened when first asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tidegate.models.cache import Progress
from tidegate.models.exact.model import ExactModel
from tidegate.models.port import Model
from tidegate.models.replay_port import Replay

EXACT, FP32, BF16, INT4, LLAMA = "exact", "fp32", "bf16", "int4", "llama"

GROUP = 32
"""Weights that share a scale in INT4, as in the usual 4-bit files."""

Opener = Callable[[], Model]


class Engines:
    """Models by name, opened once; the verifier of each reads answers with the same model."""

    def __init__(self, openers: Mapping[str, Opener]) -> None:
        self._openers = openers
        self._models: dict[str, Model] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._openers

    def model(self, name: str) -> Model:
        """Raises ModelError or IntegrityError."""
        if name not in self._models:
            model = self._openers[name]()
            if isinstance(model, ExactModel):
                # Pages that serving left behind would spare the verifier its own computation.
                model.reuse = False
            self._models[name] = model
        return self._models[name]

    def replay(self, name: str) -> Replay:
        """The verifier on that stack. Use it only while nobody else runs the model."""
        # Imported here: each needs what its model needs, and that is loaded by now.
        model = self.model(name)
        if isinstance(model, ExactModel):
            from tidegate.models.replay_exact import ExactReplay

            return ExactReplay(model)
        if name == LLAMA:
            from tidegate.models.llamacpp import LlamaCppModel
            from tidegate.models.replay_llama_cpp import LlamaCppReplay

            if isinstance(model, LlamaCppModel):
                return LlamaCppReplay(model)
        from tidegate.models.replay_transformers import TransformersReplay
        from tidegate.models.transformers_torch import TransformersModel

        if not isinstance(model, TransformersModel):
            raise TypeError(f"no way to replay on {type(model).__name__}")
        return TransformersReplay(model)


def packaged(name: str, threads: int, progress: Progress) -> Engines:
    """All stacks of a packaged model; llama.cpp only where it is installed."""

    def exact() -> Model:
        from tidegate.models.exact.convert import prepare_exact
        from tidegate.models.exact.load import load

        return load(prepare_exact(name, progress=progress), threads=threads)

    def transformers(dtype: str, *, four_bits: bool = False) -> Model:
        from tidegate.models import transformers_torch
        from tidegate.models.prepared import prepare

        folder = prepare(name, progress=progress)
        model = transformers_torch.load(
            folder, dtype="bfloat16" if dtype == BF16 else "float32", threads=threads
        )
        if four_bits:
            to_four_bits(model.module)
        return model

    def llama() -> Model:
        from tidegate.models import llamacpp
        from tidegate.models.sources import locate

        return llamacpp.load(Path(locate(name, None, progress)), threads=threads)

    openers: dict[str, Opener] = {
        EXACT: exact,
        FP32: partial(transformers, FP32),
        BF16: partial(transformers, BF16),
        INT4: partial(transformers, FP32, four_bits=True),
    }
    if importlib.util.find_spec("llama_cpp") is not None:
        openers[LLAMA] = llama
    return Engines(openers)


def to_four_bits(module: Any) -> None:
    """Round the weights of all linear layers to 15 levels, a scale for `GROUP` of them; in place.

    The head is left as it is where it is the embedding too. A plain 4-bit model: no weight is
    chosen with data.
    """
    import torch

    shared = {id(embedding.weight) for embedding in _kinds(module, torch.nn.Embedding)}
    with torch.no_grad():
        for linear in _kinds(module, torch.nn.Linear):
            weight = linear.weight
            if id(weight) in shared:
                continue
            groups = weight.reshape(-1, GROUP)
            scale = (groups.abs().amax(dim=1, keepdim=True) / 7).clamp(min=1e-12)
            weight.copy_(((groups / scale).round() * scale).reshape(weight.shape))


def _kinds(module: Any, kind: Any) -> list[Any]:
    return [one for one in module.modules() if isinstance(one, kind)]
