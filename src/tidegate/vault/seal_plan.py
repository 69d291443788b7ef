"""What a model's folder is cut into: shards that end where tensors end."""

from __future__ import annotations

import bisect
import itertools
import os
import stat
from pathlib import Path
from typing import Final

from tidegate.errors import ModelError
from tidegate.models.exact.tensorfile import read_header
from tidegate.vault.errors import VaultError
from tidegate.vault.manifest import File, Manifest, Shard, Tensor, require_path

SHARD_BYTES: Final = 256 << 20
"""Of a shard, unless one tensor is larger: what an interrupted sealing loses at most a thread."""


def plan(folder: Path, model: str, sealing: str, shard_bytes: int = SHARD_BYTES) -> Manifest:
    """The manifest for sealing every file in `folder`, but for hidden ones.

    Tensors are those of safetensors files; other files are cut at `shard_bytes`. Raises VaultError
    for a folder without files, or one with names or links that cannot be sealed.
    """
    if shard_bytes < 1:
        raise VaultError("a shard has at least one byte")
    files: list[File] = []
    shards: list[Shard] = []
    tensors: list[Tensor] = []
    for name in _names(folder):
        path = folder / name
        size = path.stat().st_size
        found = _tensors(path) if name.endswith(".safetensors") else []
        start_of = _cuts(size, [end for _, _, end, _, _ in found], shard_bytes)
        first = len(shards)
        for offset, end in zip(start_of, [*start_of[1:], size], strict=True):
            shards.append(Shard(len(shards), name, offset, end - offset))
        for title, start, end, dtype, shape in found:
            index = bisect.bisect_right(start_of, start) - 1
            offset = start_of[index]
            tensors.append(Tensor(title, first + index, start - offset, end - offset, dtype, shape))
        files.append(File(name, size))
    if not files:
        raise VaultError(f"{folder} holds no files to seal")
    return Manifest(model, sealing, tuple(files), tuple(shards), tuple(tensors))


def _names(folder: Path) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place)
        for name in folders:
            if (inside / name).is_symlink():
                raise VaultError(f"{inside / name} is a link to a folder; seal what it names")
        for name in names:
            if name.startswith("."):
                continue
            path = inside / name
            try:
                regular = stat.S_ISREG(path.stat().st_mode)
            except OSError as error:
                raise VaultError(f"cannot read {path}: {error.strerror}") from error
            if not regular:
                raise VaultError(f"{path} is no regular file", file=str(path))
            relative = path.relative_to(folder).as_posix()
            require_path(relative)
            found.append(relative)
    return sorted(found)


def _tensors(path: Path) -> list[tuple[str, int, int, str, tuple[int, ...]]]:
    """(name, start, end, dtype, shape), places in the file, in their order there."""
    try:
        header, body = read_header(path)
    except ModelError as error:
        raise VaultError(f"{error.message}; it is not sealed", file=str(path)) from error
    found = []
    for name, entry in header.items():
        start, end = entry.data_offsets
        found.append((name, body + start, body + end, entry.dtype, entry.shape))
    found.sort(key=lambda tensor: (tensor[1], tensor[2]))
    for before, after in itertools.pairwise(found):
        if after[1] < before[2]:
            raise VaultError(f"{path}: tensors {before[0]} and {after[0]} overlap", file=str(path))
    return found


def _cuts(size: int, ends: list[int], shard_bytes: int) -> list[int]:
    """Where shards begin: each as long as it may be, and no tensor in two of them."""
    if not ends:
        return list(range(0, size, shard_bytes)) or [0]
    starts, last = [0], 0
    for end in sorted(set(ends)):
        if end - starts[-1] > shard_bytes and last > starts[-1]:
            starts.append(last)
        last = end
    return starts
