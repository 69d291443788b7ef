"""A host opens its part of a sealed model: those keys, those tensors, and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from proof_world import UNTIED, write_folder
from sealed_world import OWNER

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.exact.format import read
from tidegate.models.exact.load import load_stage
from tidegate.models.exact.stage import layers_among, names_of, span_of
from tidegate.models.exact.tensorfile import open_tensors
from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.open_part import PART, part_in_memory, shards_of
from tidegate.vault.open_sealed import Sealed, open_sealed
from tidegate.vault.seal import seal

RANKS = 2
SHAPE = replace(UNTIED, layers=3)


def of_rank(rank: int):
    def chooses(names: Collection[str]) -> Collection[str]:
        return names_of(names, span_of(layers_among(names), rank, RANKS))

    return chooses


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sealed, LocalKms]:
    place: Path = tmp_path_factory.mktemp("part")
    write_folder(place / "plain", SHAPE)
    kms = LocalKms.create(place / "kms")
    seal(place / "plain", place / "sealed", model="tiny", kms=kms, signer=OWNER, shard_bytes=4_000)
    return place / "plain", open_sealed(place / "sealed", OWNER.verifier), kms


@pytest.mark.parametrize("rank", range(RANKS))
def test_only_the_parts_own_keys_are_asked_for(world: tuple[Path, Sealed, LocalKms], rank: int):
    plain, opened, kms = world
    asked: list[int] = []
    key_of = opened.key_from(kms)

    def asking(number: int) -> bytes:
        asked.append(number)
        return key_of(number)

    needed = shards_of(opened.manifest, of_rank(rank))
    assert 0 < len(needed) < len(opened.manifest.shards)
    with part_in_memory(opened, asking, of_rank(rank)) as folder:
        assert sorted(asked) == list(needed)
        whole = read(plain).tensors
        held = open_tensors(folder / PART)
        assert set(held) == set(of_rank(rank)(whole))
        assert all(np.array_equal(held[name].raw, whole[name]) for name in held)
        for file in ("config.json", "tokenizer.json"):
            assert (folder / file).read_bytes() == (plain / file).read_bytes()
        assert not (folder / "model.safetensors").exists()
    assert not folder.exists()


@pytest.mark.parametrize("rank", range(RANKS))
def test_a_stage_loads_from_its_part_alone(world: tuple[Path, Sealed, LocalKms], rank: int):
    plain, opened, kms = world
    with part_in_memory(opened, opened.key_from(kms), of_rank(rank)) as folder:
        stage, converted = load_stage(folder, rank, RANKS, vouched=True, threads=1)
        assert converted.root == read(plain).root
        with pytest.raises(ModelError, match="it is missing"):
            load_stage(folder, 1 - rank, RANKS, vouched=True, threads=1)
    # The folder is gone; what the stage holds stays.
    stage.start([(0, (5, 6))])
    hidden = None if stage.span.first else np.ones((2, SHAPE.width), np.float32)
    made = stage.run([(0, (5, 6))], [1], hidden)
    assert made.shape == ((1, SHAPE.vocab_size) if stage.span.last else (2, SHAPE.width))


def test_a_changed_shard_of_the_part_is_refused_and_one_of_others_does_not_matter(
    world: tuple[Path, Sealed, LocalKms], tmp_path: Path
):
    plain, _, _ = world
    kms = LocalKms.create(tmp_path / "kms")
    seal(plain, tmp_path / "s", model="tiny", kms=kms, signer=OWNER, shard_bytes=4_000)
    opened = open_sealed(tmp_path / "s", OWNER.verifier)
    mine, other = (set(shards_of(opened.manifest, of_rank(rank))) for rank in range(RANKS))
    key_of = opened.key_from(kms)

    def change(number: int) -> None:
        path = tmp_path / "s" / f"{number:05d}.shard"
        raw = bytearray(path.read_bytes())
        raw[-40] ^= 1
        path.write_bytes(raw)

    change(max(other - mine))
    with part_in_memory(opened, key_of, of_rank(0)):
        pass
    change(max(mine - other))
    with pytest.raises(TamperedError), part_in_memory(opened, key_of, of_rank(0)):
        pass


def test_a_part_without_its_key_is_not_opened(world: tuple[Path, Sealed, LocalKms]):
    _, opened, _ = world

    def none(number: int) -> bytes:
        raise VaultError(f"No key of shard {number} is held under this grant.")

    with pytest.raises(VaultError), part_in_memory(opened, none, of_rank(0)):
        pass


@pytest.mark.parametrize(
    ("file", "vouched"),
    [("tokenizer.json", True), ("tokenizer.json", False), ("model.safetensors", False)],
)
def test_a_folder_that_was_changed_is_run_by_no_rank(
    world: tuple[Path, Sealed, LocalKms], tmp_path: Path, file: str, vouched: bool
):
    plain, _, _ = world
    for path in plain.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    raw = bytearray((tmp_path / file).read_bytes())
    raw[-1] ^= 1
    (tmp_path / file).write_bytes(raw)
    with pytest.raises(IntegrityError, match=file):
        load_stage(tmp_path, 0, RANKS, vouched=vouched, threads=1)


def test_a_part_that_nobody_vouches_for_is_run_by_no_rank(
    world: tuple[Path, Sealed, LocalKms],
):
    _, opened, kms = world
    with (
        part_in_memory(opened, opened.key_from(kms), of_rank(0)) as folder,
        pytest.raises((IntegrityError, ModelError)),
    ):
        load_stage(folder, 0, RANKS, threads=1)
