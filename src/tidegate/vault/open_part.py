"""A part of a sealed model in memory, for a host that runs a part of it.

Keys are asked for the shards that hold the part and no other, so a host under a grant needs a grant
for those alone. The folder holds the files that are no tensors' whole, and one file with the chosen
tensors: an engine that asks for another finds it missing, instead of zeros where it would lie.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tidegate.models.cache import Progress, no_progress
from tidegate.vault.errors import VaultError
from tidegate.vault.manifest import File, Manifest, Tensor
from tidegate.vault.memory_files import MemoryFiles, memory_files
from tidegate.vault.open_sealed import KeyOf, Sealed

PART: Final = "part.safetensors"
TENSORS: Final = ".safetensors"

Chooses = Callable[[Collection[str]], Collection[str]]
"""Of the names of all tensors, those that are wanted."""


def shards_of(manifest: Manifest, chooses: Chooses) -> tuple[int, ...]:
    """Numbers of the shards that hold a part, ascending. Raises VaultError as `Manifest.tensor`."""
    tensors = {tensor.shard for tensor in _chosen(manifest, chooses)}
    files = manifest.shards_of(*(file.name for file in _others(manifest)))
    return tuple(sorted(tensors.union(files)))


@contextmanager
def part_in_memory(
    sealed: Sealed, key_of: KeyOf, chooses: Chooses, *, progress: Progress = no_progress
) -> Iterator[Path]:
    """A folder with the files that are no tensors', and the chosen tensors in `PART`.

    Everything is checked before it is entered. Call `keep_off_disk` first. Raises VaultError,
    TamperedError.
    """
    tensors, others = _chosen(sealed.manifest, chooses), _others(sealed.manifest)
    header = _header(tensors)
    total = sum(file.size for file in others) + len(header) + sum(map(_size, tensors))
    done = 0
    with (
        closing(memory_files()) as memory,
        tempfile.TemporaryDirectory(prefix="tidegate-") as place,
    ):
        folder = Path(place)

        def put(handle: int, raw: bytes | bytearray | memoryview, at: int) -> int:
            nonlocal done
            _write(handle, memoryview(raw), at)
            done += len(raw)
            progress("opening", done, total)
            return at + len(raw)

        for file in others:
            handle = _create(memory, folder, file.name, file.size)
            for number in sealed.manifest.shards_of(file.name):
                offset = sealed.manifest.shard(number).offset
                with sealed.open_shard(number, key_of(number)) as opened:
                    for piece in opened.stream():
                        offset = put(handle, piece, offset)
        handle = _create(memory, folder, PART, len(header) + sum(map(_size, tensors)))
        at = put(handle, header, 0)
        for number in sorted({tensor.shard for tensor in tensors}):
            with sealed.open_shard(number, key_of(number)) as opened:
                for tensor in tensors:
                    if tensor.shard == number:
                        at = put(handle, opened.read(tensor.start, tensor.end), at)
        memory.shut()
        yield folder


def _chosen(manifest: Manifest, chooses: Chooses) -> tuple[Tensor, ...]:
    """In the order of their shards, which is that of the part's file."""
    names = frozenset(chooses([tensor.name for tensor in manifest.tensors]))
    found = [manifest.tensor(name) for name in names]
    return tuple(sorted(found, key=lambda tensor: (tensor.shard, tensor.start, tensor.name)))


def _others(manifest: Manifest) -> tuple[File, ...]:
    return tuple(file for file in manifest.files if not file.name.endswith(TENSORS))


def _header(tensors: Collection[Tensor]) -> bytes:
    """A safetensors file up to its first tensor, which begins at a multiple of eight."""
    at, entries = 0, {}
    for tensor in tensors:
        end = at + _size(tensor)
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [at, end],
        }
        at = end
    raw = json.dumps(entries, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _size(tensor: Tensor) -> int:
    return tensor.end - tensor.start


def _create(memory: MemoryFiles, folder: Path, name: str, size: int) -> int:
    handle = memory.create(size)
    link = folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"/proc/self/fd/{handle}")
    return handle


def _write(handle: int, raw: memoryview, at: int) -> None:
    try:
        while raw:
            written = os.pwrite(handle, raw, at)
            raw, at = raw[written:], at + written
    except OSError as error:
        raise VaultError(f"there is not memory enough for the part: {error.strerror}") from error
