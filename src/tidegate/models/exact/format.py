"""The converted folder: integer weights, configuration, tokenizer, and one hash over all of it.

`config.json` gives the shape, `*.safetensors` the tensors, `manifest.json` the SHA-256 of every
file and the root hash over those. A folder is written under another name and renamed, so one that
is there is complete. Source: spec/exact.md.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.cache import publish, sha256_of
from tidegate.models.exact.parameters import check, expected
from tidegate.models.exact.shape import Shape, from_config, to_config
from tidegate.models.exact.tensorfile import Array, Stored, open_tensors
from tidegate.models.prepared import MANIFEST, Manifest, content_hash, manifest_of

FORMAT = "tidegate-exact-1"
CONFIG = "config.json"

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


def is_converted(folder: Path) -> bool:
    """Whether a folder claims to be a converted one; nothing of it is checked."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


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
    stored: dict[str, Stored] = {}
    for name in sorted(manifest.files):
        if name.endswith(".safetensors"):
            stored |= open_tensors(folder / name)
    tensors = {name: tensor.as_numpy() for name, tensor in stored.items()}
    check(shape, tensors, str(folder))
    return Converted(folder, manifest, shape, tensors)


def read_part(folder: Path, names_of: Callable[[Collection[str]], Collection[str]]) -> Converted:
    """Open a converted folder of which only some tensors are needed, or there at all.

    `names_of` says which of the model's. The manifest and every file but the tensors' are checked;
    the tensors' own hashes are not, since a part of a file has none: whoever put them there has to
    vouch for them, as the signature of a sealed folder does. Raises as `read`.
    """
    manifest = manifest_of(folder, frozenset(_but_tensors(manifest_of(folder, frozenset()))))
    if content_hash(manifest) != manifest.root:
        raise IntegrityError(
            f"{folder / MANIFEST} states another root hash than it lists files for",
            file=str(folder / MANIFEST),
        )
    shape = _read_shape(folder / CONFIG, manifest)
    wanted = frozenset(names_of(expected(shape)))
    stored: dict[str, Stored] = {}
    for path in sorted(folder.glob("*.safetensors")):
        stored |= open_tensors(path)
    tensors = {name: stored[name].as_numpy() for name in wanted & stored.keys()}
    check(shape, tensors, str(folder), only=wanted)
    return Converted(folder, manifest, shape, tensors)


def _but_tensors(manifest: Manifest) -> Iterator[str]:
    return (name for name in manifest.files if not name.endswith(".safetensors"))


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

    `tensors` may come in any order, a few at a time. `settings` joins the configuration (end
    tokens, what the conversion chose); `files` are tokenizer and chat template by name. Raises
    ModelError naming the tensor where `tensors` is not what `shape` asks for, or if `folder` is
    taken.
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
    pending: dict[str, Array] = {}
    written: dict[str, Array] = {}
    shards = 0

    def flush() -> None:
        nonlocal shards
        shards += 1
        path = folder / ("model.safetensors" if shards == 1 else f"model-{shards}.safetensors")
        safetensors.numpy.save_file(pending, path)
        written.update((name, stored.as_numpy()) for name, stored in open_tensors(path).items())
        pending.clear()

    for name, array in tensors:
        pending[name] = np.ascontiguousarray(array)
        if sum(kept.nbytes for kept in pending.values()) >= _SHARD_BYTES:
            flush()
    flush()
    check(shape, written, str(folder))
