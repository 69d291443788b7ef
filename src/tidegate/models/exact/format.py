"""The converted folder: integer weights, configuration, tokenizer, and one hash over all of it.

`config.json` gives the shape, `*.safetensors` the tensors, `manifest.json` the SHA-256 of every
file and the root hash over those. A folder is written under another name and renamed, so one that
is there is complete. Source: spec/exact.md.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.cache import publish, sha256_of
from tidegate.models.exact.shape import HEAD, LAYER_OPS, Shape, from_config, to_config
from tidegate.models.exact.tensorfile import Array, Stored, open_tensors
from tidegate.models.prepared import MANIFEST, Manifest, content_hash, manifest_of

FORMAT = "tidegate-exact-1"
CONFIG = "config.json"

_INT8 = np.dtype(np.int8)
_INT16 = np.dtype(np.int16)
_F32 = np.dtype(np.float32)

_SHARD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted folder, checked. Arrays are read-only and stay on disk until they are used."""

    folder: Path
    manifest: Manifest
    shape: Shape
    tensors: Mapping[str, Array]

    @property
    def root(self) -> str:
        """Hex SHA-256 over every file's name and hash; equal roots give equal logits."""
        return self.manifest.root


def layout(shape: Shape) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Name → (dtype, shape) of every tensor, in the order of a forward pass."""
    vocabulary, width = shape.vocab_size, shape.width
    rotation = (shape.context_length, shape.head_size // 2)
    tensors: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "embed.weight": (_INT8 if shape.tied else _INT16, (vocabulary, width)),
        "embed.scale": (_F32, (vocabulary,)),
        "rope.cos": (_F32, rotation),
        "rope.sin": (_F32, rotation),
    }
    for layer in range(shape.layers):
        for op in LAYER_OPS:
            outputs, inputs = shape.linear(op)
            prefix = f"layers.{layer}.{op}"
            tensors[f"{prefix}.weight"] = (_INT8, (outputs, inputs))
            tensors[f"{prefix}.scale"] = (_F32, (outputs,))
        if shape.qkv_bias:
            tensors[f"layers.{layer}.qkv.bias"] = (_F32, shape.linear("qkv")[:1])
        tensors[f"layers.{layer}.attn_norm"] = (_F32, (width,))
        tensors[f"layers.{layer}.mlp_norm"] = (_F32, (width,))
    tensors["norm"] = (_F32, (width,))
    if not shape.tied:
        tensors[f"{HEAD}.weight"] = (_INT8, (vocabulary, width))
        tensors[f"{HEAD}.scale"] = (_F32, (vocabulary,))
    return tensors


def read(folder: Path) -> Converted:
    """Open a converted folder, every file's hash checked first.

    Raises IntegrityError naming the file where bytes are not what the manifest says, and ModelError
    naming file, field or tensor where the folder is not what the engine runs.
    """
    if not (folder / MANIFEST).is_file():
        raise ModelError(
            f"{folder} is not a converted folder: it has no {MANIFEST}; "
            "make one with `tidegate exact convert SOURCE OUT`",
            file=str(folder / MANIFEST),
        )
    manifest = manifest_of(folder)
    if content_hash(manifest) != manifest.root:
        raise IntegrityError(
            f"{folder / MANIFEST} states another root hash than its files have",
            file=str(folder / MANIFEST),
            expected=manifest.root,
            actual=content_hash(manifest),
        )
    shape = _read_shape(folder / CONFIG, manifest)
    tensors: dict[str, Stored] = {}
    for name in sorted(manifest.files):
        if name.endswith(".safetensors"):
            tensors |= open_tensors(folder / name)
    return Converted(folder, manifest, shape, _checked(folder, shape, tensors))


def _read_shape(path: Path, manifest: Manifest) -> Shape:
    if path.name not in manifest.files:
        raise IntegrityError(f"{path.parent / MANIFEST} does not list {path.name}", file=str(path))
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", file=str(path)) from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise ModelError(f"{path}: format is {found!r}, not {FORMAT!r}", file=str(path))
    return from_config(config, str(path))


def _checked(folder: Path, shape: Shape, stored: Mapping[str, Stored]) -> dict[str, Array]:
    wanted = layout(shape)
    for name in sorted(wanted.keys() ^ stored.keys()):
        told = "lacks tensor" if name in wanted else "holds an unknown tensor"
        raise ModelError(f"{folder} {told} {name}", file=str(folder), tensor=name)
    arrays = {}
    for name, (dtype, sizes) in wanted.items():
        array = stored[name].exact(dtype)
        _check(name, array, sizes, str(stored[name].file))
        arrays[name] = array
    return arrays


def _check(name: str, array: Array, sizes: tuple[int, ...], file: str) -> None:
    """Raise ModelError for another shape, or for values that the specification excludes."""
    why = ""
    if array.shape != sizes:
        why = f"has shape {array.shape}, where the configuration asks for {sizes}"
    elif array.dtype == _F32 and not np.isfinite(array).all():
        why = "holds NaN or infinity"
    elif array.dtype == _INT8 and array.size and array.min() < -127:
        why = "holds -128, which the specification excludes"
    elif array.dtype == _INT16 and array.size and array.min() < -32767:
        why = "holds -32768, which the specification excludes"
    if why:
        raise ModelError(f"{file}: tensor {name} {why}", file=file, tensor=name)


def write(
    folder: Path,
    shape: Shape,
    tensors: Iterable[tuple[str, Array]],
    *,
    name: str,
    licence: str,
    provenance: str,
    source_sha256: str,
    made_with: str,
    settings: Mapping[str, object],
    files: Mapping[str, bytes],
) -> Manifest:
    """Write a converted folder; it appears under its name only when it is complete.

    `tensors` comes in the order of `layout`. `settings` joins the configuration (end tokens, what
    the conversion chose); `files` are tokenizer and chat template by name. Raises ModelError naming
    the tensor where `tensors` is not what `shape` asks for, or if `folder` is taken.
    """
    if folder.exists():
        raise ModelError(f"{folder} exists already; choose another place", file=str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(folder) as temporary:
        config = {"format": FORMAT, **to_config(shape), **settings}
        (temporary / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        for file, content in files.items():
            (temporary / file).write_bytes(content)
        _write_tensors(temporary, shape, tensors)
        manifest = Manifest(
            name=name,
            licence=licence,
            provenance=provenance,
            parameters=shape.parameters,
            dtype="int8",
            source_sha256=source_sha256,
            made_with=made_with,
            files={path.name: sha256_of(path) for path in sorted(temporary.iterdir())},
        )
        manifest = msgspec.structs.replace(manifest, root=content_hash(manifest))
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        (temporary / MANIFEST).write_bytes(text)
        publish(temporary, folder)
    return manifest


@contextlib.contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A fresh folder beside `folder`, gone afterwards unless it was renamed."""
    temporary = folder.with_name(folder.name + ".making")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_tensors(folder: Path, shape: Shape, tensors: Iterable[tuple[str, Array]]) -> None:
    wanted = layout(shape)
    pending: dict[str, Array] = {}
    shards = size = 0

    def flush() -> None:
        nonlocal shards, size
        shards += 1
        file = "model.safetensors" if shards == 1 else f"model-{shards}.safetensors"
        safetensors.numpy.save_file(pending, folder / file)
        pending.clear()
        size = 0

    for name, array in tensors:
        dtype, sizes = wanted.pop(name, (None, ()))
        if array.dtype != dtype:
            raise ModelError(f"tensor {name} is {array.dtype}, not {dtype}", tensor=name)
        _check(name, array, sizes, str(folder))
        pending[name] = np.ascontiguousarray(array)
        size += array.nbytes
        if size >= _SHARD_BYTES:
            flush()
    if wanted:
        raise ModelError(f"no tensor {next(iter(wanted))} was given", tensor=next(iter(wanted)))
    flush()
