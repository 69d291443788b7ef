"""SGLang's own registry of hooks and its own processor class, with the plug-in hung into them.

SGLang needs a GPU to run, not to be read: `pip download --no-deps sglang==0.5.23`, unpack the wheel
and name the folder in TIDEGATE_SGLANG_SOURCE. Its modules are loaded one by one, with nothing in
the place of what they would unpickle with.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tidegate.models import sglang_plugin
from tidegate.models.sglang_contract import PROCESSOR, SERVER_NEEDS
from tidegate.models.vllm_contract import Draw, extra_args
from tidegate.sampling.filters import process_logits
from tidegate.sampling.gumbel import sample
from tidegate.sampling.params import SamplingParams

SOURCE = os.environ.get("TIDEGATE_SGLANG_SOURCE")
SEED = bytes(range(32))

pytestmark = pytest.mark.skipif(
    SOURCE is None, reason="SGLang's source is not here: not tested here (TIDEGATE_SGLANG_SOURCE)"
)


def _read(path: str) -> ast.Module:
    return ast.parse((Path(SOURCE or "") / "sglang" / "srt" / path).read_text())


class _Poison(ModuleType):
    """Stands for what unpickles; touching it fails the test."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{self.__name__}.{name} was used")


class TokenizerManager:
    """SGLang's, as far as the hook goes: too much hangs on the real one."""

    def _validate_one_request(self, obj: object, input_ids: object) -> str:
        return "validated"


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`sglang.srt.sampling.custom_logit_processor` with our hooks applied."""
    before = set(sys.modules)
    for name in ("sglang", "sglang.srt", "sglang.srt.plugins", "sglang.srt.sampling"):
        package = ModuleType(name)
        package.__path__ = [str(Path(SOURCE or "") / name.replace(".", "/"))]
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, "dill", _Poison("dill"))
    monkeypatch.setitem(sys.modules, "orjson", _Poison("orjson"))
    managers = ModuleType("sglang.srt.managers.tokenizer_manager")
    managers.TokenizerManager = TokenizerManager  # type: ignore[attr-defined]
    managers.TokenizerManager.__module__ = managers.__name__
    monkeypatch.setitem(sys.modules, "sglang.srt.managers", ModuleType("sglang.srt.managers"))
    monkeypatch.setitem(sys.modules, managers.__name__, managers)
    plain = TokenizerManager._validate_one_request
    from sglang.srt.plugins.hook_registry import HookRegistry
    from sglang.srt.sampling import custom_logit_processor

    sglang_plugin.install()
    HookRegistry.apply_hooks()
    yield custom_logit_processor
    HookRegistry.reset()
    TokenizerManager._validate_one_request = plain  # type: ignore[method-assign]
    for name in set(sys.modules) - before:
        if name.startswith("sglang"):
            del sys.modules[name]


def test_our_text_gives_our_processor_and_nothing_is_unpickled(hooked: Any):
    processor = hooked.CustomLogitProcessor.from_str(PROCESSOR)
    assert type(processor).__name__ == "Seeded"
    # A class made by the base's own method would be unpickled by an unhooked server.
    with pytest.raises(ValueError, match="other_processors"):
        hooked.CustomLogitProcessor.from_str('{"callable": "80049503"}')


def test_the_processor_draws_each_rows_token(hooked: Any):
    processor = hooked.CustomLogitProcessor.from_str(PROCESSOR)
    logits_NV = np.random.default_rng(3).normal(0, 2, (4, 300)).astype(np.float32)
    params = [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.7, top_p=0.8),
        SamplingParams(temperature=1.2, top_k=9),
        SamplingParams(temperature=0.9, repetition_penalty=1.3, presence_penalty=0.5),
    ]
    outputs = [[], [5], [5, 6], [7, 7, 8]]
    given = [
        {
            **extra_args(Draw(params=one, seed=SEED)),
            "__req__": SimpleNamespace(origin_input_ids=[1, 2], output_ids=done),
        }
        for one, done in zip(params, outputs, strict=True)
    ]
    masked = processor(torch.from_numpy(logits_NV.copy()), given)
    expected = [
        sample(process_logits(row_V, one, [1, 2], done), SEED, len(done))
        for row_V, one, done in zip(logits_NV, params, outputs, strict=True)
    ]
    assert masked.argmax(-1).tolist() == expected
    # Where some rows sample and some do not, SGLang takes the softmax of all: one token is left.
    assert torch.softmax(masked, -1).max(-1).values.tolist() == [1.0] * 4


def test_requests_are_checked_where_sglang_answers_with_400(hooked: Any):
    manager = TokenizerManager()
    good = {"temperature": 0, "custom_params": extra_args(Draw(params=SamplingParams(), seed=SEED))}
    request = SimpleNamespace(custom_logit_processor=PROCESSOR, sampling_params=good)
    assert manager._validate_one_request(request, [1]) == "validated"
    request.sampling_params = good | {"regex": "a"}
    with pytest.raises(ValueError, match="structured_output"):
        manager._validate_one_request(request, [1])


def test_sglang_still_has_what_the_plug_in_hangs_on():
    module, _, method = sglang_plugin.CHECK.rpartition(".")
    tree = _read("managers/tokenizer_manager.py")
    manager = next(
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == module.rpartition(".")[2]
    )
    check = next(n for n in manager.body if isinstance(n, ast.FunctionDef) and n.name == method)
    assert [argument.arg for argument in check.args.args] == ["self", "obj", "input_ids"]
    scheduled = (Path(SOURCE or "") / "sglang/srt/managers/schedule_batch.py").read_text()
    assert '"__req__"' in scheduled
    fields = "".join(
        path.read_text() for path in (Path(SOURCE or "") / "sglang/srt/arg_groups").rglob("*.py")
    )
    assert [name for name in SERVER_NEEDS if f"{name}: A[" not in fields] == []
