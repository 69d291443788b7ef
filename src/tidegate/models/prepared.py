"""Model folders that load in about a second: safetensors, config, tokenizer and a hashed manifest.

A GGUF file is converted once, in a process of its own, so that a half which needs only a tokenizer
never loads the engine's code. The manifest guards against corruption and mixed-up files; it is no
defence against someone who can rewrite the cache, for he can rewrite the manifest too.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.cache import (
    Progress,
    cache_root,
    exclusive,
    no_progress,
    publish,
    require_sha256,
    require_space,
    sha256_of,
)
from tidegate.models.packages import fetch, pins
from tidegate.models.sources import locate

Dtype = Literal["bfloat16", "float32"]

MANIFEST = "manifest.json"
EXACT = "exact:"
"""Before a model's name: convert it for the exact engine."""

TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
    }
)
# Q4 weights are about 4.6 bits each; float32 is seven times that.
_BYTES_PER_GGUF_BYTE: dict[Dtype, int] = {"bfloat16": 4, "float32": 8}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a prepared folder holds; `files` maps each name to its SHA-256.

    `root` is `content_hash` of it all, stated where others refer to it: in folders that were
    converted for the exact engine.
    """

    name: str
    licence: str
    provenance: str
    parameters: int
    dtype: str
    source_sha256: str
    made_with: str
    files: dict[str, str]
    root: str = ""


def prepare(
    spec: str,
    *,
    dtype: Dtype = "bfloat16",
    cache_dir: Path | None = None,
    progress: Progress = no_progress,
) -> Path:
    """A folder that `transformers_torch.load` and `tokenizer.load` open, made on first use.

    `spec` is a packaged name, a path (GGUF file or model folder) or a hub id. A model folder is
    returned as it is. With `exact:` before it, the folder is one for the exact engine, and `dtype`
    does not matter. Raises ModelError or IntegrityError.
    """
    if spec.startswith(EXACT):
        # Imported here, since conversion builds on this module.
        from tidegate.models.exact.convert import prepare_exact

        return prepare_exact(spec, cache_dir=cache_dir, progress=progress)
    root = cache_dir or cache_root()
    pin = pins().get(spec)
    if pin is not None:
        origin = _Origin(spec, pin.sha256, pin.licence, pin.provenance)
        folder = _folder(root, origin, dtype)
        if (folder / MANIFEST).exists():
            return folder
        return _convert(fetch(spec, root, progress), origin, folder, dtype, progress)
    source = locate(spec, root, progress)
    if source.is_dir():
        return source
    origin = _Origin(source.stem, sha256_of(source), "unknown", f"file {source.name}")
    return _convert(source, origin, _folder(root, origin, dtype), dtype, progress)


def manifest_of(folder: Path, names: frozenset[str] | None = None) -> Manifest:
    """The folder's manifest, with every file's hash (or those in `names`) checked now.

    A folder without a manifest, as from the hub, gets one made from what is there. Raises
    IntegrityError, naming the file, where bytes and manifest differ.
    """
    path = folder / MANIFEST
    if not path.exists():
        return _manifest_of_stranger(folder, names)
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{path} is not a manifest: {error}", file=str(path)) from error
    for name, expected in manifest.files.items():
        if names is None or name in names:
            require_sha256(folder / name, expected)
    return manifest


def content_hash(manifest: Manifest, *more: str) -> str:
    """Hex SHA-256 over the names and hashes of a manifest's files, and `more`."""
    lines = [f"{name} {digest}" for name, digest in sorted(manifest.files.items())]
    return hashlib.sha256("\n".join([*lines, *more]).encode()).hexdigest()


class _Origin(NamedTuple):
    """Where a GGUF file comes from."""

    name: str
    sha256: str
    licence: str
    provenance: str


def _folder(root: Path, origin: _Origin, dtype: Dtype) -> Path:
    plain = re.sub(r"[^\w.-]+", "_", origin.name)
    return root / "models" / f"{plain}-{origin.sha256[:12]}-{dtype}"


def _manifest_of_stranger(folder: Path, names: frozenset[str] | None) -> Manifest:
    kept = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in {".json", ".safetensors", ".jinja", ".model"}
        and (names is None or path.name in names)
    )
    if not kept:
        raise ModelError(f"{folder} holds no model files", file=str(folder))
    return Manifest(
        name=folder.name,
        licence="unknown",
        provenance="a model folder given by path or hub id",
        parameters=0,
        dtype="",
        source_sha256="",
        made_with="",
        files={path.name: sha256_of(path) for path in kept},
    )


def _convert(gguf: Path, origin: _Origin, folder: Path, dtype: Dtype, progress: Progress) -> Path:
    with exclusive(folder.with_name(folder.name + ".lock")):
        if (folder / MANIFEST).exists():
            return folder
        require_space(folder.parent, _BYTES_PER_GGUF_BYTE[dtype] * gguf.stat().st_size)
        progress(f"converting {origin.name}", 0, 1)
        temporary = folder.with_name(folder.name + ".making")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        parameters, made_with = _run_converter(gguf, temporary, dtype)
        manifest = Manifest(
            name=origin.name,
            licence=origin.licence,
            provenance=origin.provenance,
            parameters=parameters,
            dtype=dtype,
            source_sha256=origin.sha256,
            made_with=made_with,
            files={path.name: sha256_of(path) for path in sorted(temporary.iterdir())},
        )
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        (temporary / MANIFEST).write_bytes(text)
        publish(temporary, folder)
        progress(f"converting {origin.name}", 1, 1)
    return folder


def _run_converter(gguf: Path, folder: Path, dtype: Dtype) -> tuple[int, str]:
    command = [sys.executable, "-m", "tidegate.models.convert", str(gguf), str(folder), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ModelError(
            f"cannot convert {gguf.name}: {reason[0]} (does the environment have tidegate[torch]?)",
            file=str(gguf),
        )
    parameters, made_with = done.stdout.strip().splitlines()[-1].split(" ", 1)
    return int(parameters), made_with
