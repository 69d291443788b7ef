from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import exact_models
import msgspec
import numpy as np
import pytest

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.cache import sha256_of
from tidegate.models.exact import format as folders
from tidegate.models.prepared import MANIFEST, Manifest, content_hash

SHAPE = exact_models.shape_of(tied=False)


def write(folder: Path, tensors: Any = None, **changes: Any) -> Manifest:
    arguments: dict[str, Any] = {
        "name": "seeded",
        "licence": "Apache-2.0",
        "provenance": "a seed",
        "source_sha256": "",
        "made_with": "a test",
        "settings": {"eos_token_id": [1]},
        "files": {"tokenizer.json": b"{}"},
    }
    given = exact_models.tensors(SHAPE).items() if tensors is None else tensors
    return folders.write(folder, SHAPE, given, **(arguments | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "model")
    return tmp_path / "model"


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.iterdir()]


def test_what_was_written_is_read_back(folder: Path) -> None:
    found = folders.read(folder)
    assert found.shape == SHAPE
    assert found.manifest.parameters == SHAPE.parameters
    for name, tensor in exact_models.tensors(SHAPE).items():
        assert found.tensors[name].dtype == tensor.dtype
        assert np.array_equal(found.tensors[name], tensor)


def test_large_models_are_spread_over_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(tmp_path / "whole")
    monkeypatch.setattr(folders, "_SHARD_BYTES", 20_000)
    parts = write(tmp_path / "parts")
    files = [name for name in parts.files if name.endswith(".safetensors")]
    assert len(files) > 2
    assert "model.safetensors" in files
    one, other = (folders.read(tmp_path / name) for name in ("whole", "parts"))
    assert all(np.array_equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    assert whole.root != parts.root


def test_the_root_hash_covers_every_file(tmp_path: Path) -> None:
    roots = {write(tmp_path / "a").root}
    roots.add(write(tmp_path / "b", files={"tokenizer.json": b"{ }"}).root)
    roots.add(write(tmp_path / "c", settings={"eos_token_id": [2]}).root)
    tensors = dict(exact_models.tensors(SHAPE))
    tensors["norm"] = tensors["norm"] * np.float32(2)
    roots.add(write(tmp_path / "d", tensors.items()).root)
    assert len(roots) == 4
    assert write(tmp_path / "e", name="another name").root in roots


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_single_flipped_bit_is_refused_by_file(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=name):
        folders.read(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_gone_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        folders.read(folder)


def test_a_manifest_with_another_root_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["root"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match="another root hash"):
        folders.read(folder)


def test_a_folder_without_a_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tidegate exact convert"):
        folders.read(tmp_path)
    assert not folders.is_converted(tmp_path)


def test_a_folder_of_another_format_is_refused(folder: Path) -> None:
    assert folders.is_converted(folder)
    rewritten(folder, {"format": "tidegate-exact-0"})
    assert not folders.is_converted(folder)
    with pytest.raises(ModelError, match="format is 'tidegate-exact-0'"):
        folders.read(folder)


def test_a_shape_that_does_not_fit_the_tensors_is_refused_by_tensor(folder: Path) -> None:
    rewritten(folder, {"intermediate_size": SHAPE.ffn_size + 1})
    with pytest.raises(ModelError, match=r"layers\.0\.gate_up\.weight"):
        folders.read(folder)


def rewritten(folder: Path, changes: dict[str, object]) -> None:
    """The same folder with another configuration, its hashes put right."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["config.json"] = sha256_of(folder / "config.json")
    manifest["root"] = content_hash(msgspec.convert(manifest, Manifest))
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["layers.1.down.weight", "rope.cos", "head.scale"])
def test_a_tensor_that_is_missing_is_named_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    tensors = {key: value for key, value in exact_models.tensors(SHAPE).items() if key != name}
    with pytest.raises(ModelError, match=name):
        write(tmp_path / "model", tensors.items())
    assert left_over(tmp_path / "model") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("layers.0.qkv.weight", -128), ("norm", np.nan), ("head.scale", np.inf), ("embed.scale", -1)],
)
def test_values_outside_the_specification_are_not_written(
    tmp_path: Path, name: str, value: float
) -> None:
    tensors = dict(exact_models.tensors(SHAPE))
    tensors[name] = tensors[name].copy()
    tensors[name].flat[5] = value
    with pytest.raises(ModelError, match=name):
        write(tmp_path / "model", tensors.items())
    assert left_over(tmp_path / "model") == []


def test_a_conversion_that_stops_half_way_leaves_nothing(tmp_path: Path) -> None:
    def some() -> Iterator[tuple[str, Any]]:
        yield from list(exact_models.tensors(SHAPE).items())[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "model", some())
    assert left_over(tmp_path / "model") == []


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "model.making").mkdir()
    (tmp_path / "model.making" / "model.safetensors").write_bytes(b"half")
    write(tmp_path / "model")
    assert left_over(tmp_path / "model") == ["model"]


def test_a_folder_that_exists_is_not_overwritten(folder: Path) -> None:
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(ModelError, match="exists already"):
        write(folder)
    assert (folder / MANIFEST).read_bytes() == before
