from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.prepared import (
    MANIFEST,
    TOKENIZER_FILES,
    Manifest,
    content_hash,
    manifest_of,
    prepare,
)

FILES = {"model.safetensors": b"weights", "config.json": b"{}", "tokenizer.json": b"{ }"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    manifest = Manifest(
        name="made up",
        licence="Apache-2.0",
        provenance="a test",
        parameters=7,
        dtype="bfloat16",
        source_sha256="",
        made_with="",
        files={name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
    )
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return tmp_path


def test_a_prepared_folder_is_what_its_manifest_says(folder: Path):
    assert manifest_of(folder).parameters == 7


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_changed_file_is_refused_by_name(folder: Path, name: str):
    (folder / name).write_bytes(b"other")
    with pytest.raises(IntegrityError, match=name):
        manifest_of(folder)


def test_a_missing_file_is_refused_by_name(folder: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        manifest_of(folder)


def test_a_half_that_needs_only_the_tokenizer_reads_no_weights(folder: Path):
    (folder / "model.safetensors").unlink()
    assert manifest_of(folder, TOKENIZER_FILES).name == "made up"
    (folder / "tokenizer.json").write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"tokenizer\.json"):
        manifest_of(folder, TOKENIZER_FILES)


def test_a_garbled_manifest_is_refused(folder: Path):
    (folder / MANIFEST).write_text('{"name": 3}')
    with pytest.raises(IntegrityError, match=MANIFEST):
        manifest_of(folder)


def test_a_folder_from_elsewhere_is_hashed_as_it_stands(folder: Path):
    (folder / MANIFEST).unlink()
    first = content_hash(manifest_of(folder))
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert content_hash(manifest_of(folder)) != first


def test_the_content_hash_depends_on_the_dtype(folder: Path):
    manifest = manifest_of(folder)
    assert content_hash(manifest, "bfloat16") != content_hash(manifest, "float32")


def test_an_empty_folder_is_no_model(tmp_path: Path):
    with pytest.raises(ModelError, match="no model files"):
        manifest_of(tmp_path)


def test_a_model_folder_needs_no_preparation(folder: Path):
    assert prepare(str(folder)) == folder


def test_a_file_that_is_no_gguf_is_refused_with_its_name(tmp_path: Path):
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"broken\.gguf"):
        prepare(str(path), cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob(MANIFEST))
