from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ModelError
from tidegate.models.exact.tensorfile import open_tensors

DTYPES = (np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8)


def raw_file(path: Path, header: object, body: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_library_wrote_is_read_back(tmp_path: Path, dtype: type) -> None:
    tensors = {"a": np.arange(12).reshape(3, 4).astype(dtype), "b": np.ones((), dtype)}
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors")
    found = open_tensors(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].as_numpy().dtype == dtype
        assert np.array_equal(found[name].as_numpy(), tensor)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path_factory, values: list[float]) -> None:
    halves = np.array(values, np.float32).view(np.uint32) >> 16
    header = {"w": {"dtype": "BF16", "shape": [len(values)], "data_offsets": [0, 2 * len(values)]}}
    path = raw_file(tmp_path_factory.mktemp("b") / "x", header, halves.astype("<u2").tobytes())
    found = open_tensors(path)["w"].float32()
    assert np.array_equal(found, (halves << 16).astype(np.uint32).view(np.float32))


def test_a_tensor_that_is_not_aligned_is_read_all_the_same(tmp_path: Path) -> None:
    header = {
        "odd": {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    body = b"\x07" + np.array([1.5, -2.0], "<f4").tobytes()
    for pad in range(4):
        header["__metadata__"] = {"pad": "x" * pad}
        found = open_tensors(raw_file(tmp_path / f"{pad}", header, body))
        assert found["w"].float32().tolist() == [1.5, -2.0]


def test_a_file_cut_short_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    safetensors.numpy.save_file({"a": np.ones(5, np.float32)}, whole)
    data = whole.read_bytes()
    for length in range(len(data)):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"cut\.safetensors"):
            open_tensors(cut)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [6, 10]},
        {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]},
    ],
)
def test_a_header_that_lies_is_refused_by_tensor(tmp_path: Path, entry: object) -> None:
    path = raw_file(tmp_path / "x.safetensors", {"some.weight": entry}, bytes(8))
    with pytest.raises(ModelError, match=r"some\.weight"):
        open_tensors(path)


@pytest.mark.parametrize("header", [[], {"w": 3}, {"w": {"dtype": "F32"}}])
def test_a_header_of_another_kind_is_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(ModelError, match="header is corrupt"):
        open_tensors(raw_file(tmp_path / "x", header))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_by_tensor_and_place(tmp_path: Path, value: float) -> None:
    tensor = np.zeros((3, 4), np.float32)
    tensor[1, 2] = value
    safetensors.numpy.save_file({"a.weight": tensor}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"a\.weight .* \[1, 2\]") as refused:
        open_tensors(tmp_path / "x.safetensors")["a.weight"].float32()
    assert refused.value.details["tensor"] == "a.weight"


def test_integers_are_not_taken_for_weights(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.ones(3, np.int8)}, tmp_path / "x")
    with pytest.raises(ModelError, match="weights need floats"):
        open_tensors(tmp_path / "x")["a"].float32()
