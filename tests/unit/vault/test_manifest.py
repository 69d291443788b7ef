"""Manifests name every byte once, in one form only, and contexts never collide."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.manifest import File, Manifest, Shard, Tensor
from tidegate.vault.seal_plan import plan

SEALING = "0" * 32
WORDS = st.text(st.sampled_from('ab0/._- \n"\\é'), min_size=0, max_size=6)


def made(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "model": "m",
        "sealing": SEALING,
        "files": (File("a", 10), File("b", 0)),
        "shards": (Shard(0, "a", 0, 4), Shard(1, "a", 4, 6), Shard(2, "b", 0, 0)),
        "tensors": (Tensor("t", 1, 2, 6, "U8", (4,)),),
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_manifest_is_read_as_it_was_written():
    manifest = made()
    assert Manifest.parse(manifest.encode()) == manifest
    assert Manifest.parse(manifest.encode()).digest == manifest.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ""},
        {"model": "a\nb"},
        {"sealing": "0" * 31},
        {"sealing": "G" * 32},
        {"files": ()},
        {"files": (File("b", 0), File("a", 10))},
        {"files": (File("a", 10), File("a", 10))},
        {"files": (File("a", 11), File("b", 0))},
        {"files": (File("a", -10), File("b", 0))},
        {"shards": (Shard(0, "a", 0, 10),)},
        {"shards": (Shard(0, "a", 0, 4), Shard(1, "a", 5, 5), Shard(2, "b", 0, 0))},
        {"shards": (Shard(0, "a", 0, 10), Shard(1, "b", 0, 0), Shard(2, "c", 0, 0))},
        {"shards": (Shard(0, "a", 0, 0), Shard(1, "a", 0, 10), Shard(2, "b", 0, 0))},
        {"shards": (Shard(1, "a", 0, 10), Shard(0, "b", 0, 0))},
        {"tensors": (Tensor("t", 3, 0, 0, "U8", ()),)},
        {"tensors": (Tensor("t", -1, 0, 0, "U8", ()),)},
        {"tensors": (Tensor("t", 0, 2, 5, "U8", (3,)),)},
        {"tensors": (Tensor("t", 0, 3, 2, "U8", ()),)},
        {"tensors": (Tensor("t", 0, 0, 1, "U8", (-1,)),)},
        {"tensors": (Tensor("t", 0, 0, 1, "U8", ()), Tensor("t", 1, 0, 1, "U8", ()))},
    ],
)
def test_what_no_sealing_makes_is_refused(changes: dict[str, object]):
    with pytest.raises(VaultError):
        made(**changes)


@given(name=WORDS)
def test_names_stay_inside_the_folder_and_need_no_escapes(name: str):
    try:
        manifest = made(files=(File(name, 0),), shards=(Shard(0, name, 0, 0),), tensors=())
    except VaultError:
        return
    assert not name.startswith("/")
    assert ".." not in name.split("/")
    assert json.loads(manifest.encode())["files"][0]["name"] == name
    assert b"\\" not in manifest.encode()


@given(data=st.binary(max_size=40))
def test_bytes_that_are_no_manifest_are_refused(data: bytes):
    with pytest.raises(TamperedError):
        Manifest.parse(data)


@given(place=st.integers(0, 300), flip=st.integers(1, 255))
def test_a_changed_byte_gives_another_digest_or_no_manifest(place: int, flip: int):
    manifest = made()
    raw = bytearray(manifest.encode())
    raw[place % len(raw)] ^= flip
    with contextlib.suppress(TamperedError):
        assert Manifest.parse(bytes(raw)).digest != manifest.digest


def test_contexts_differ_by_purpose_model_shard_and_sealing():
    one = made()
    others = [made(model="n"), made(sealing="1" * 32)]
    contexts = [
        context
        for manifest in (one, *others)
        for number in range(3)
        for context in (manifest.shard_context(number), manifest.key_context(number))
    ]
    assert len(set(contexts)) == len(contexts)
    for number in (-1, 3):
        with pytest.raises(VaultError):
            one.shard_context(number)


def test_tensors_of_one_name_are_told_apart_by_their_file():
    again = Tensor("t", 0, 0, 1, "U8", ())
    two = made(
        files=(File("a", 10), File("b", 1)),
        shards=(Shard(0, "a", 0, 10), Shard(1, "b", 0, 1)),
        tensors=(again, dataclasses.replace(again, shard=1)),
    )
    assert two.tensor("t", "b").shard == 1
    for name, file in (("t", None), ("u", None), ("t", "c")):
        with pytest.raises(VaultError):
            two.tensor(name, file)
    assert two.shards_of("b") == (1,)
    with pytest.raises(VaultError):
        two.shards_of("c")


@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=8),
    shard_bytes=st.integers(1, 700),
    other=st.integers(0, 2000),
)
def test_plans_cover_every_byte_and_cut_no_tensor(tmp_path_factory, sizes, shard_bytes, other):
    folder: Path = tmp_path_factory.mktemp("plan")
    tensors = {f"t{number}": np.zeros(size, np.uint8) for number, size in enumerate(sizes)}
    safetensors.numpy.save_file(tensors, folder / "m.safetensors")
    (folder / "other.bin").write_bytes(bytes(other))
    manifest = plan(folder, "m", SEALING, shard_bytes)
    assert {t.name: t.end - t.start for t in manifest.tensors} == {
        name: tensor.nbytes for name, tensor in tensors.items()
    }
    header = (folder / "m.safetensors").stat().st_size - sum(sizes)
    for shard in manifest.shards:
        held = [t for t in manifest.tensors if t.shard == shard.number and t.end > t.start]
        most = max(shard_bytes, max((t.end - t.start for t in held), default=0))
        assert shard.size <= most + (header if shard.offset == 0 else 0)
    Manifest.parse(manifest.encode())


@pytest.mark.parametrize("kind", ["empty", "folder link", "pipe", "dangling", "name", "truncated"])
def test_folders_that_cannot_be_sealed_are_refused(tmp_path: Path, kind: str):
    import os

    (tmp_path / "model").mkdir()
    folder = tmp_path / "model"
    if kind != "empty":
        safetensors.numpy.save_file({"t": np.zeros(9, np.uint8)}, folder / "m.safetensors")
    if kind == "folder link":
        (folder / "more").symlink_to(tmp_path)
    elif kind == "pipe":
        os.mkfifo(folder / "pipe")
    elif kind == "dangling":
        (folder / "link").symlink_to(tmp_path / "nothing")
    elif kind == "name":
        (folder / 'a"b').touch()
    elif kind == "truncated":
        raw = (folder / "m.safetensors").read_bytes()
        (folder / "m.safetensors").write_bytes(raw[:-1])
    with pytest.raises(VaultError):
        plan(folder, "m", SEALING)


def test_links_to_files_are_followed(tmp_path: Path):
    """As in the hub's cache, whose folders hold links."""
    (tmp_path / "blob").write_bytes(b"12345")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "blob")
    assert plan(tmp_path / "model", "m", SEALING).files == (File("config.json", 5),)
