"""The models file, with the manifests of sealed models that it names."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tidegate.audit.models import Guarded, guarded, table_of
from tidegate.errors import ConfigError


def read_models(path: Path) -> Guarded:
    """The models file, with the sealed manifests that it names. Raises ConfigError."""
    try:
        table = table_of(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}", file=str(path)) from error
    named = {told.manifest: told.name for told in table.model if told.manifest}
    sealed = {file: _sealed(path.parent / file, name) for file, name in named.items()}
    return guarded(table, sealed)


def _sealed(path: Path, name: str) -> list[tuple[str, int]]:
    """Names and sizes of a sealed model's shards, as they lie in its folder. The manifest's
    signature is not checked here: `tidegate vault verify` does that."""
    from tidegate.vault.manifest import MAX_MANIFEST_BYTES, Manifest
    from tidegate.vault.seal_chunks import sealed_size
    from tidegate.vault.seal_files import read_bytes, shard_path

    manifest = Manifest.parse(read_bytes(path, MAX_MANIFEST_BYTES))
    if manifest.model != name:
        raise ConfigError(f"{path} is the manifest of {manifest.model}, not of {name}")
    folder = path.parent
    return [
        (shard_path(folder, shard.number).name, sealed_size(shard.size))
        for shard in manifest.shards
    ]
