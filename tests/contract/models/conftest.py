from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.models.port import Model

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TINY = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 600,
    "eos_token_id": 2,
}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight Llama as `save_pretrained` writes it."""
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    torch.manual_seed(7)
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)  # spreads the logits, so that a wrong mask is seen
    model.save_pretrained(folder)
    return folder


Open = Callable[[], Model]


@pytest.fixture(params=["transformers"])
def open_model(request: pytest.FixtureRequest) -> Open:
    """Opens a fresh instance of one adapter; the suite runs once for each."""
    folder = request.getfixturevalue("tiny_folder")
    from tidegate.models.transformers_torch import load

    return lambda: load(folder, dtype="float32", threads=1)


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
