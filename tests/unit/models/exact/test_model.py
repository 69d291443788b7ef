"""The model on the exact engine: what a refused call leaves behind, and what it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_models import model_of, shape_of, tensors

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.exact import load as exact
from tidegate.models.exact.format import write
from tidegate.models.load import load_strong

SHAPE = shape_of()


def prompt(length: int, salt: int = 0) -> list[int]:
    return [(17 * index * index + 31 * salt + 5) % SHAPE.vocab_size for index in range(length)]


class Failing:
    """Products that stop being finite after some passes."""

    def __init__(self, inner: Any, passes: int) -> None:
        self._inner = inner
        self.passes = passes

    def begin(self, rows: Any) -> None:
        self.passes -= 1

    def multiply(self, layer: int, op: str, q_NK: Any) -> Any:
        if self.passes < 0 and op == "down":
            raise ModelError("an activation is not a number")
        return self._inner.multiply(layer, op, q_NK)


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_a_pass_that_fails_leaves_every_sequence_as_it_was(passes: int):
    model, untouched = model_of(SHAPE, pass_rows=32), model_of(SHAPE)
    for each in (model, untouched):
        each.forward([(0, prompt(100)), (1, prompt(9, 1))])
    plain = model.linear
    model.linear = Failing(plain, passes)
    with pytest.raises(ModelError):
        model.forward([(0, prompt(70, 2)), (1, [3]), (5, prompt(40, 5))])
    model.linear = plain
    with pytest.raises(ModelError, match="no such sequence"):
        model.drop(5)
    batch = [(0, [7]), (1, [8]), (5, prompt(80, 5))]
    np.testing.assert_array_equal(model.forward(batch), untouched.forward(batch))


def test_weights_that_blow_up_are_refused_while_running():
    weights = tensors(SHAPE)
    for layer in range(SHAPE.layers):
        weights[f"layers.{layer}.down.scale"] = np.full(SHAPE.width, 2.0**20, np.float32)
        weights[f"layers.{layer}.gate_up.scale"] = np.full(2 * SHAPE.ffn_size, 2.0**20, np.float32)
    model = model_of(SHAPE, weights=weights)
    with pytest.raises(ModelError, match="larger than"):
        model.forward([(0, [5])])
    with pytest.raises(ModelError, match="no such sequence"):
        model.drop(0)


def test_reusing_a_prefix_changes_no_bit():
    model = model_of(SHAPE)
    model.forward([(0, prompt(200))])
    reused = model.forward([(1, [*prompt(150), 4])])
    np.testing.assert_array_equal(reused, model_of(SHAPE).forward([(0, [*prompt(150), 4])]))


def folder_of(place: Path, **changes: Any) -> Path:
    weights = tensors(SHAPE) | changes
    write(
        place,
        SHAPE,
        weights.items(),
        name="tiny",
        licence="Apache-2.0",
        provenance="a seed",
        source_sha256="",
        made_with="a test",
        settings={"eos_token_id": [2]},
        files={},
    )
    return place


def test_a_converted_folder_opens_as_an_exact_model(tmp_path: Path):
    folder = folder_of(tmp_path / "tiny")
    model = load_strong(str(folder), threads=1, max_context=120)
    assert model.exact
    assert (model.vocab_size, model.context_length) == (SHAPE.vocab_size, 120)
    assert model.eos_ids == {2}
    assert model.describe().parameters == SHAPE.parameters
    assert "native" in model.describe().numerics
    expected = model_of(SHAPE, "numpy").forward([(0, prompt(50))])
    np.testing.assert_array_equal(model.forward([(0, prompt(50))]), expected)
    assert exact.load(folder, threads=2).fingerprint == model.fingerprint


def test_other_weights_have_another_fingerprint(tmp_path: Path):
    one = exact.load(folder_of(tmp_path / "one"), threads=1)
    gain = np.ones(SHAPE.width, np.float32)
    other = exact.load(folder_of(tmp_path / "other", norm=gain), threads=1)
    assert one.fingerprint != other.fingerprint


def test_a_changed_file_is_refused_before_anything_runs(tmp_path: Path):
    folder = folder_of(tmp_path / "tiny")
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_strong(str(folder))
