"""Key files: whole or refused, secret, replaced in one step."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from proof_world import SECRET, Bundle, World, write_folder

from tidegate.models.exact.shape import HEAD
from tidegate.prove import keyfile, keys
from tidegate.prove.freivalds import columns_for
from tidegate.prove.statement import Statement
from tidegate.prove.verdict import Pass, UnverifiableError


@pytest.fixture(scope="module")
def raw(world: World) -> bytes:
    return keys.generate(world.converted, secret=SECRET)


def test_a_key_holds_no_weight(world: World, raw: bytes) -> None:
    for name, tensor in world.converted.tensors.items():
        if name.endswith(".weight"):
            for row in np.ascontiguousarray(tensor):
                assert row.tobytes() not in raw


def test_a_key_is_two_words_a_column_and_input(world: World) -> None:
    shape = world.converted.shape
    inputs = [shape.linear(op)[1] for _, op in shape.products()]
    assert world.key.column_bytes == sum(8 * columns_for(k) * k for k in inputs)
    assert set(world.key.columns) == set(shape.products())
    assert (shape.layers, HEAD) in world.key.columns


def test_the_file_is_its_owners_alone(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "deep" / "verifier.key"
    keyfile.write(path, raw)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.decode(keyfile.read(path)).subject == keys.decode(raw).subject


@pytest.mark.parametrize("place", [0, 30, 60, 400, -1])
def test_a_damaged_key_verifies_nothing(raw: bytes, place: int) -> None:
    damaged = bytearray(raw)
    damaged[place] ^= 4
    with pytest.raises(UnverifiableError, match="key"):
        keys.decode(bytes(damaged))


@pytest.mark.parametrize("size", [0, 20, 57, 4_000])
def test_a_truncated_key_verifies_nothing(raw: bytes, size: int) -> None:
    with pytest.raises(UnverifiableError, match="key"):
        keys.decode(raw[:size])


def test_a_missing_key_verifies_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnverifiableError, match="cannot read"):
        keyfile.read(tmp_path / "verifier.key")


def test_rotation_changes_every_secret_and_checks_old_traces_still(
    world: World, honest: tuple[Statement, Bundle], tmp_path: Path, raw: bytes
) -> None:
    statement, bundle = honest
    path = tmp_path / "verifier.key"
    keyfile.write(path, raw)
    before = keys.decode(keyfile.read(path))
    keyfile.write(path, keys.rotate(keyfile.read(path), world.converted))
    after = keys.decode(keyfile.read(path))
    assert after.generation == before.generation + 1
    for product, columns in before.columns.items():
        assert not np.isin(columns.r_CO, after.columns[product].r_CO).any()
    assert isinstance(world.verify(bundle, statement, after), Pass)


def test_rotation_follows_new_weights(world: World, tmp_path: Path, raw: bytes) -> None:
    other = write_folder(tmp_path / "model", seed="next year's")
    assert keys.decode(keys.rotate(raw, other)).subject == keys.subject_of(other)


def test_two_keys_for_the_same_weights_share_no_secret(world: World) -> None:
    one, other = (keys.decode(keys.generate(world.converted)) for _ in range(2))
    product = world.converted.shape.products()[0]
    assert not np.isin(one.columns[product].r_CO, other.columns[product].r_CO).any()
    assert one.subject == other.subject


def test_showing_a_key_does_not_show_the_secret(world: World) -> None:
    assert SECRET.hex() not in repr(world.key)
    assert "columns" not in repr(world.key)
