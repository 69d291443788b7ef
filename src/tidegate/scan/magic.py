"""Headers of the formats that models are kept in.

safetensors, GGUF (and its ancestors), PyTorch (zip and legacy pickle), NumPy, HDF5, ONNX, TFLite. A
header says what follows it, and often how much: it is read as data, never loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final, Literal, NamedTuple

import msgspec

_MOST_HEADER: Final = 100_000_000
"""The safetensors library refuses longer headers."""
_GGUF_VERSIONS: Final = 99
_GGUF_COUNT: Final = 1 << 24
"""Versions and numbers of tensors or keys beyond what the format will have for long."""
_GGML: Final = (b"lmgg", b"fmgg", b"tjgg", b"algg")
_TORCH_LEGACY: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""A pickled magic number (torch/serialization.py), which every legacy file begins with."""
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]")
_PICKLED_TENSORS: Final = re.compile(
    rb"torch(?:\._utils|\n\w*Storage)|_rebuild_tensor|numpy(?:\.|\n)|joblib"
)
_ONNX: Final = re.compile(rb"\x08[\x03-\x10]\x12.{1,64}?(?:pytorch|onnx|tf2onnx|keras|skl)", re.S)
_LOOK: Final = 4096

_MARKS: Final = ((b"GGUF", 0), (b"\x89HDF\r\n", 0), (b"\x93NUMPY", 0), (b'":{"dtype":', _LOOK))
"""Strong enough to be looked for in the middle of something; how far before it a header begins."""


class Header(NamedTuple):
    """A format, and what its header says of what follows."""

    name: str
    says: str


def identify(head: bytes) -> Header | None:
    """The model format that `head` is the beginning of; None where it is of none known."""
    if head.startswith(b"GGUF") and len(head) >= 24:
        return _gguf(head)
    if head[:4] in _GGML:
        return Header("GGML", "an ancestor of GGUF")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Header("HDF5", "as Keras keeps weights")
    if head.startswith(b"\x93NUMPY"):
        return Header("NumPy", head[10:90].split(b"\n")[0].decode("latin-1").strip())
    if head[4:8] == b"TFL3":
        return Header("TFLite", "a FlatBuffer")
    if head.startswith(b"PK\x03\x04"):
        return _archive(head)
    return _safetensors(head) or _pickle(head) or _onnx(head)


def find(data: bytes) -> Header | None:
    """The first model format whose header lies somewhere in `data`."""
    for mark, back in _MARKS:
        at = data.find(mark)
        if at >= 0:
            begin = data.find(b'{"', max(0, at - back), at) if back else at
            found = identify(data[begin:]) if begin >= 0 else None
            if found is not None:
                return found
    return None


def _gguf(head: bytes) -> Header | None:
    """Four letters are in much that is no model: the numbers after them have to make sense."""
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        version, tensors, keys = (
            int.from_bytes(head[start:stop], order) for start, stop in ((4, 8), (8, 16), (16, 24))
        )
        if 0 < version <= _GGUF_VERSIONS and max(tensors, keys) <= _GGUF_COUNT:
            return Header("GGUF", f"version {version}, {tensors} tensors")
    return None


def _archive(head: bytes) -> Header | None:
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith(
        (b"data.pkl", b"constants.pkl", b"/version", b"/byteorder", b".data/serialization_id")
    ):
        return Header("PyTorch", f"zip archive, {name.decode('latin-1')[:60]}")
    if name.endswith(b".npy"):
        return Header("npz", f"zip archive, {name.decode('latin-1')[:60]}")
    return None


def _safetensors(head: bytes) -> Header | None:
    size = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= size <= _MOST_HEADER:
        text = head[8 : 8 + size]
    elif head.startswith((b'{"__metadata__":', b'{"')) and b'"data_offsets":' in head[:_LOOK]:
        text = head
    else:
        return None
    if b'"dtype":' not in text[:_LOOK] and b'"data_offsets":' not in text[:_LOOK]:
        return None
    try:
        table = msgspec.json.decode(text, type=dict[str, dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Header("safetensors", "header cut off")
    tensors = [entry for name, entry in table.items() if name != "__metadata__"]
    dtypes = Counter(str(entry.get("dtype")) for entry in tensors)
    shown = ", ".join(f"{count} of {dtype}" for dtype, count in dtypes.most_common(3))
    return Header("safetensors", f"{len(tensors)} tensors ({shown})")


def _pickle(head: bytes) -> Header | None:
    if head.startswith(_TORCH_LEGACY):
        return Header("PyTorch", "legacy pickle")
    if _PICKLE.match(head) and _PICKLED_TENSORS.search(head[:_LOOK]):
        return Header("pickle", "that names tensors or arrays")
    return None


def _onnx(head: bytes) -> Header | None:
    return Header("ONNX", "a protocol buffer") if _ONNX.match(head[:128]) else None
