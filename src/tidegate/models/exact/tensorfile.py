"""Safetensors files as arrays that stay on disk, bfloat16 included, with errors that name tensors.

The library's NumPy reader knows no bfloat16, and its errors do not say which tensor is broken.
Format: eight bytes of header length, a JSON object, then the tensors' bytes, little-endian.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ModelError

Array = NDArray[Any]
F32Array = NDArray[np.float32]

_MOST_HEADER_BYTES = 100_000_000
"""As in the reference implementation: what a header may cost before a byte of it is believed."""

_BRAIN_FLOAT = "BF16"
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    _BRAIN_FLOAT: np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
_FLOATS = frozenset({"F64", "F32", "F16", _BRAIN_FLOAT})


class Entry(msgspec.Struct, frozen=True):
    """A tensor in the header; `data_offsets` count from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file; `raw` is read-only, bfloat16 as its 16 bits."""

    name: str
    file: Path
    dtype: str
    raw: Array

    def as_numpy(self) -> Array:
        """The array as it is. Raises ModelError for bfloat16, which numpy does not have."""
        if self.dtype == _BRAIN_FLOAT:
            raise ModelError(
                f"{self.file}: tensor {self.name} is stored as {self.dtype}",
                file=str(self.file),
                tensor=self.name,
            )
        return self.raw

    def float32(self) -> F32Array:
        """A float32 copy. Raises ModelError for integers, NaN, infinity, or what is too large."""
        if self.dtype not in _FLOATS:
            raise ModelError(
                f"{self.file}: tensor {self.name} is stored as {self.dtype}; weights need floats",
                file=str(self.file),
                tensor=self.name,
            )
        if self.dtype == _BRAIN_FLOAT:
            values = (self.raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            with np.errstate(over="ignore"):  # what overflows is refused below
                values = self.raw.astype(np.float32)
        if not np.isfinite(values).all():
            place = np.argwhere(~np.isfinite(values))[0].tolist()
            raise ModelError(
                f"{self.file}: tensor {self.name} holds {values[tuple(place)]} at {place}",
                file=str(self.file),
                tensor=self.name,
            )
        return values


def open_tensors(path: Path) -> dict[str, Stored]:
    """Every tensor of a safetensors file, by name.

    Raises ModelError, naming the file and where possible the tensor, if the file cannot be read, is
    truncated, or its header contradicts its size.
    """
    header, body = _split(path, _mapped(path))
    return {name: _tensor(path, name, entry, body) for name, entry in header.items()}


def read_header(path: Path) -> tuple[Mapping[str, Entry], int]:
    """The tensors of a safetensors file, and where in it their bytes begin.

    Raises ModelError naming the file, and the tensor where one ends beyond the file.
    """
    data = _mapped(path)
    header, body = _split(path, data)
    for name, entry in header.items():
        start, end = entry.data_offsets
        if not 0 <= start <= end <= len(body):
            raise ModelError(
                f"{path}: tensor {name} lies beyond the file, which is truncated",
                file=str(path),
                tensor=name,
            )
    return header, len(data) - len(body)


def _mapped(path: Path) -> memoryview:
    try:
        with path.open("rb") as handle:
            return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise ModelError(f"cannot read {path}: {error}", file=str(path)) from error


def _split(path: Path, data: memoryview) -> tuple[Mapping[str, Entry], memoryview]:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _MOST_HEADER_BYTES):
        raise ModelError(
            f"{path} is no safetensors file, or it is truncated: its header does not fit into it",
            file=str(path),
        )
    try:
        entries = msgspec.json.decode(data[8 : 8 + size], type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        header = {name: msgspec.json.decode(entry, type=Entry) for name, entry in entries.items()}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: the header is corrupt: {error}", file=str(path)) from error
    return header, data[8 + size :]


def _tensor(path: Path, name: str, entry: Entry, body: memoryview) -> Stored:
    def broken(why: str) -> ModelError:
        return ModelError(f"{path}: tensor {name} {why}", file=str(path), tensor=name)

    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        raise broken(f"has dtype {entry.dtype}, which is not supported")
    start, end = entry.data_offsets
    if min(entry.shape, default=0) < 0 or start < 0:
        raise broken("has a negative size or offset")
    if end - start != math.prod(entry.shape) * dtype.itemsize:
        raise broken(f"has {end - start} bytes, which is not what shape {entry.shape} needs")
    if end > len(body):
        raise broken(f"ends at byte {end} of {len(body)}: the file is truncated")
    flat = np.frombuffer(body[start:end], np.uint8)
    # Arithmetic wants aligned numbers; a file need not align them.
    aligned = flat if flat.ctypes.data % dtype.itemsize == 0 else flat.copy()
    raw = aligned.view(dtype).reshape(entry.shape)
    raw.flags.writeable = False
    return Stored(name, path, entry.dtype, raw)
