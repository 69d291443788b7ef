from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import exact_models
import float_models
import numpy as np
import pytest
from numpy.typing import NDArray

from tidegate.errors import ModelError
from tidegate.models import tokenizer, transformers_torch
from tidegate.models.exact.convert import Recipe, convert, prepare_exact
from tidegate.models.exact.format import read
from tidegate.models.prepared import MANIFEST

QUICK = Recipe(max_context=128, tokens=160)
KINDS = {
    "llama": float_models.config("llama", tied=True),
    "llama-untied": float_models.config("llama", tied=False),
    "qwen2": float_models.config("qwen2", tied=True),
    "qwen2-untied": float_models.config("qwen2", tied=False),
}
TEXT = [int(17 * place * place + 5 * place) % 95 for place in range(60)]


def exact_logits(folder: Path) -> NDArray[np.float32]:
    found = read(folder)
    model = exact_models.model_of(found.shape, "numpy", weights=dict(found.tensors))
    return model.forward([(0, TEXT)])[0]


def float_logits(folder: Path) -> NDArray[np.float32]:
    return transformers_torch.load(folder, dtype="float32").forward([(0, TEXT)])[0]


def test_the_same_source_gives_these_weights_on_every_machine(tmp_path: Path) -> None:
    source = float_models.write(tmp_path / "source", KINDS["qwen2-untied"])
    roots = {convert(source, tmp_path / name, QUICK).root for name in ("one", "two")}
    assert len(roots) == 1
    weights = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert (
        hashlib.sha256(weights).hexdigest()
        == "38f03546b88c0b270546ee5b82e867d7276cc790a421fad2d8255275b2769af0"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_model_says_nearly_what_its_source_says(tmp_path: Path, kind: str) -> None:
    source = float_models.write(tmp_path / "source", KINDS[kind])
    convert(source, tmp_path / "out", QUICK)
    found_V, want_V = exact_logits(tmp_path / "out"), float_logits(source)
    assert np.corrcoef(found_V, want_V)[0, 1] > 0.999
    assert np.square(found_V - want_V).mean() < 0.002 * want_V.var()


def test_smoothing_pays_where_channels_are_loud(tmp_path: Path) -> None:
    source = float_models.write(tmp_path / "source", KINDS["qwen2-untied"])
    want_V = float_logits(source)
    errors = []
    for name, eighths in (("smooth", QUICK.eighths), ("plain", (0,))):
        convert(source, tmp_path / name, Recipe(128, eighths, 160))
        errors.append(float(np.square(exact_logits(tmp_path / name) - want_V).mean()))
    assert errors[0] < 0.5 * errors[1]


def test_what_a_reader_needs_comes_along(tmp_path: Path) -> None:
    source = float_models.write(tmp_path / "source", KINDS["llama"])
    manifest = convert(source, tmp_path / "out", QUICK)
    found = read(tmp_path / "out")
    assert found.root == manifest.root
    assert found.shape.context_length == 128
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    assert tokenizer.eos_ids_of(tmp_path / "out") == {96, 97}


def test_progress_goes_from_nothing_to_everything(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    source = float_models.write(tmp_path / "tiny", KINDS["llama"])
    convert(source, tmp_path / "out", QUICK, lambda *report: seen.append(report))
    assert [done for _, done, _ in seen] == [0, 1, 2, 3]
    assert {(stage, total) for stage, _, total in seen} == {("converting tiny", 3)}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": ({"model__layers__1__mlp__up_proj__weight": np.nan}, r"layers\.1\.mlp\.up_proj.*nan"),
    "infinity": ({"model__norm__weight": np.inf}, r"model\.norm\.weight.*inf"),
    "NaN in the embedding": ({"model__embed_tokens__weight": np.nan}, r"embed_tokens"),
    "a value no model has": (
        {"model__layers__0__self_attn__q_proj__weight": 1e30},
        r"layers\.0\.self_attn\.q_proj",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_values_that_are_no_weights_are_refused_by_file_and_tensor(
    tmp_path: Path, case: str
) -> None:
    given, told = BROKEN[case]
    settings = KINDS["llama"]
    replaced = {}
    for name, value in given.items():
        tensor = float_models.tensors(settings)[name.replace("__", ".")]
        tensor.flat[3] = value
        replaced[name] = tensor
    source = float_models.write(tmp_path / "source", settings, **replaced)
    refuse(source, tmp_path, rf"model\.safetensors.*{told}")


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    wrong = np.zeros((5, 7), np.float32)
    source = float_models.write(
        tmp_path / "source", KINDS["llama"], model__layers__0__mlp__down_proj__weight=wrong
    )
    refuse(source, tmp_path, r"model\.safetensors.*layers\.0\.mlp\.down_proj.*\[5, 7\]")


def test_a_tensor_nobody_knows_is_refused(tmp_path: Path) -> None:
    more = np.zeros(32, np.float32)
    source = float_models.write(
        tmp_path / "source", KINDS["llama"], model__layers__0__self_attn__o_proj__bias=more
    )
    refuse(source, tmp_path, r"o_proj\.bias")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    source = float_models.write(tmp_path / "source", KINDS["llama"])
    config = json.loads((source / "config.json").read_text()) | {"num_hidden_layers": 3}
    (source / "config.json").write_text(json.dumps(config))
    refuse(source, tmp_path, r"layers\.2\.")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "mixtral"}, "model_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"head_dim": 256}, "head_size|head_dim"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope"),
        ({"hidden_size": 70_000}, "width|hidden_size"),
    ],
)
def test_what_the_engine_cannot_run_is_refused_by_field(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    source = float_models.write(tmp_path / "source", KINDS["llama"])
    config = json.loads((source / "config.json").read_text()) | changes
    (source / "config.json").write_text(json.dumps(config))
    refuse(source, tmp_path, rf"config\.json.*({told})")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    large = float_models.config("llama", tied=True, vocab_size=2_000)
    source = float_models.write(tmp_path / "large", large)
    refuse(source, tmp_path, r"tokenizer\.json has 98 tokens and the model 2000")
    small = float_models.config("llama", tied=True, vocab_size=90)
    source = float_models.write(tmp_path / "small", small)
    refuse(source, tmp_path, r"tokenizer\.json has 98 tokens and the model 90")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_source_without_a_file_it_needs_is_refused(tmp_path: Path, name: str) -> None:
    source = float_models.write(tmp_path / "source", KINDS["llama"])
    (source / name).unlink()
    refuse(source, tmp_path, name.removeprefix("model."))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_truncated_source_is_refused_by_file(tmp_path: Path, name: str) -> None:
    source = float_models.write(tmp_path / "source", KINDS["llama"])
    data = (source / name).read_bytes()
    (source / name).write_bytes(data[: len(data) // 2])
    refuse(source, tmp_path, name)


def refuse(source: Path, folder: Path, told: str) -> None:
    """The conversion is refused with a sentence like `told`, and leaves nothing behind."""
    before = sorted(folder.iterdir())
    with pytest.raises(ModelError, match=f"(?s){told}"):
        convert(source, folder / "out", QUICK)
    assert sorted(folder.iterdir()) == before


def test_a_conversion_in_the_cache_is_made_once(tmp_path: Path) -> None:
    source = float_models.write(tmp_path / "source", KINDS["llama"])
    arguments: dict[str, Any] = {"max_context": 64, "cache_dir": tmp_path / "cache"}
    folder = prepare_exact(f"exact:{source}", **arguments)
    written = (folder / MANIFEST).stat().st_mtime_ns
    assert prepare_exact(str(source), **arguments) == folder
    assert (folder / MANIFEST).stat().st_mtime_ns == written
    assert prepare_exact(str(folder), **arguments) == folder
    assert prepare_exact(str(source), max_context=32, cache_dir=tmp_path / "cache") != folder


def test_another_source_under_the_same_name_is_converted_anew(tmp_path: Path) -> None:
    found = []
    for family in ("llama", "qwen2"):
        source = float_models.write(tmp_path / family / "model", KINDS[family])
        found.append(prepare_exact(str(source), max_context=32, cache_dir=tmp_path / "cache"))
    assert found[0] != found[1]
