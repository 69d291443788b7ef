"""A vLLM that shows its hidden states, and what must not be made of wrong ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from pooling_server import PoolingServer
from vllm_server import running

from tidegate.errors import ModelError
from tidegate.models.engine_port import EngineLostError, EngineRefusedError
from tidegate.models.replay_vllm import VllmReplay, open_head
from tidegate.verify.replay_model import Spec, open_replay, open_states, parse
from tidegate.verify.scores_fingerprint import Projection, compare

pytest.importorskip("transformers", reason="needs tidegate[torch]")

TOKENS = [5, 9, 3, 77, 30, 121]


@pytest.fixture
def server(tiny_folder: Path) -> Iterator[PoolingServer]:
    from tidegate.models import transformers_torch

    model = transformers_torch.load(tiny_folder, dtype="float32", threads=1)
    with running(PoolingServer(model)) as started:
        yield started


@pytest.fixture
def replay(server: PoolingServer, tiny_folder: Path) -> Iterator[VllmReplay]:
    opened = VllmReplay(server.url, open_head(tiny_folder, "float32"), accepted="")
    yield opened
    opened.close()


def test_states_and_logits_are_those_of_the_model(replay: VllmReplay, tiny_folder: Path):
    from tidegate.models import transformers_torch
    from tidegate.models.replay_transformers import TransformersReplay

    own = TransformersReplay(transformers_torch.load(tiny_folder, dtype="float32", threads=1))
    theirs_TD, ours_TD = replay.hidden_states(TOKENS), own.hidden_states(TOKENS)
    assert theirs_TD.shape == ours_TD.shape
    assert np.abs(theirs_TD - ours_TD).max() < 1e-5
    apart = compare(Projection.of(b"seed", theirs_TD.shape[1], 8), [(theirs_TD, ours_TD)])
    assert (apart.answers, apart.tokens, apart.bits_per_token) == (1, len(TOKENS), 256)
    assert apart.most < 1e-4


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda s: setattr(s, "lost", 1), EngineRefusedError),
        (lambda s: setattr(s, "status", 400), EngineRefusedError),
        (lambda s: setattr(s, "status", 503), EngineLostError),
        (lambda s: setattr(s, "version", "0.99"), EngineRefusedError),
    ],
    ids=["a place missing", "not a pooling model", "overloaded", "version unknown"],
)
def test_a_server_that_gives_something_else_is_not_opened(
    server: PoolingServer,
    tiny_folder: Path,
    spoil: Callable[[PoolingServer], None],
    error: type[Exception],
):
    spoil(server)
    with pytest.raises(error):
        VllmReplay(server.url, open_head(tiny_folder, "float32"), accepted="")


def test_states_of_another_width_are_another_models(server: PoolingServer, tiny_folder: Path):
    head = open_head(tiny_folder, "float32")
    narrow = replace(head, weight_VD=head.weight_VD[:, 1:])
    with pytest.raises(EngineRefusedError, match="a state of"):
        VllmReplay(server.url, narrow, accepted="")


def test_a_server_that_fails_in_an_answer_fails_the_answer(
    server: PoolingServer, replay: VllmReplay
):
    server.lost = 2
    with pytest.raises(EngineRefusedError):
        list(replay.pieces(TOKENS[:2], TOKENS[2:]))


def changed(folder: Path, tmp_path: Path, **config: Any) -> Path:
    copy = tmp_path / "changed"
    shutil.copytree(folder, copy)
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return copy


@pytest.mark.parametrize("name", ["final_logit_softcapping", "logit_scale", "logits_scaling"])
def test_models_that_change_logits_after_the_head_are_refused(
    tiny_folder: Path, tmp_path: Path, name: str
):
    with pytest.raises(ModelError, match=name):
        open_head(changed(tiny_folder, tmp_path, **{name: 30.0}), "float32")
    open_head(changed(tiny_folder, tmp_path / "off", **{name: None}), "float32")


def test_a_tied_head_is_the_embedding(tiny_folder: Path, tmp_path: Path):
    copy = changed(tiny_folder, tmp_path, tie_word_embeddings=True)
    path = copy / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    del tensors["lm_head.weight"]
    safetensors.numpy.save_file(tensors, path)
    np.testing.assert_array_equal(
        open_head(copy, "float32").weight_VD, tensors["model.embed_tokens.weight"]
    )
    del tensors["model.embed_tokens.weight"]
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ModelError, match="none of the tensors"):
        open_head(copy, "float32")


def test_in_bfloat16_head_and_logits_are_rounded_as_torch_rounds(tiny_folder: Path):
    import torch

    exact, brain = (open_head(tiny_folder, dtype) for dtype in ("float32", "bfloat16"))
    rounded_VD = torch.from_numpy(exact.weight_VD).bfloat16().float().numpy()
    np.testing.assert_array_equal(brain.weight_VD, rounded_VD)
    states_LD = np.random.default_rng(1).normal(size=(3, rounded_VD.shape[1])).astype(np.float32)
    plain_LV = states_LD @ brain.weight_VD.T
    np.testing.assert_array_equal(
        brain.logits(states_LD), torch.from_numpy(plain_LV).bfloat16().float().numpy()
    )
    assert exact.fingerprint != brain.fingerprint


def test_a_verifier_names_a_server_as_his_model(server: PoolingServer, tiny_folder: Path):
    name = f"{tiny_folder}@{server.url}"
    assert parse(f"vllm:{name}") == ("vllm", name)
    spec = Spec("vllm", name, "float32")
    opened = open_replay(spec)
    assert opened.describe().numerics.endswith("vLLM 0.32.0")
    assert open_states(spec).hidden_states(TOKENS).shape[0] == len(TOKENS)


@pytest.mark.parametrize("name", ["vllm:smollm2", "vllm:@http://a", "vllm:smollm2@a:1", "vllm:"])
def test_a_malformed_name_is_refused(name: str):
    with pytest.raises(Exception, match="names no model"):
        parse(name)


def test_engines_without_states_are_not_compared():
    with pytest.raises(Exception, match="no hidden states"):
        open_states(Spec("llama.cpp", "x.gguf"))
