"""A sealed model as a folder whose files exist in memory only, for engines that open folders.

The folder holds links to them and nothing else; they are gone with the last mapping. What the
engine makes of the bytes lies in ordinary memory; `keep_off_disk` sees to it that the kernel
does not write that to a disk either.
"""

from __future__ import annotations

import ctypes
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tidegate.models.cache import Progress, no_progress
from tidegate.vault.crew import Tell, share_out
from tidegate.vault.errors import VaultError
from tidegate.vault.memory_files import SWAPS, has_swap, memory_files
from tidegate.vault.open_sealed import KeyOf, Sealed

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2


def keep_off_disk(swaps: Path = SWAPS) -> None:
    """No core dumps of this process, and nothing of it in swap, from now on.

    Raises VaultError where there is swap and the process may not lock its memory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise VaultError(f"core dumps cannot be turned off: {os.strerror(ctypes.get_errno())}")
    if not has_swap(swaps):
        return
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        raise VaultError(
            "this host has swap, and the process may not lock its memory "
            f"({os.strerror(ctypes.get_errno())}): weights could come to lie on its disk. Turn "
            "swap off, or raise the limit on locked memory (LimitMEMLOCK=infinity)"
        )


@contextmanager
def in_memory(
    sealed: Sealed,
    key_of: KeyOf,
    *,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Iterator[Path]:
    """A folder that engines open as the model's, while the context is open.

    Every shard is decrypted and checked before it is entered, by `workers` processes, one a
    processor by default. Call `keep_off_disk` first. Raises VaultError, TamperedError.
    """
    with (
        closing(memory_files()) as memory,
        tempfile.TemporaryDirectory(prefix="tidegate-") as place,
    ):
        folder = Path(place)
        handles: dict[str, int] = {}
        for file in sealed.manifest.files:
            handles[file.name] = memory.create(file.size)
            link = folder / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"/proc/self/fd/{handles[file.name]}")
        _fill(sealed, key_of, handles, workers, progress)
        memory.shut()
        yield folder


def _fill(
    sealed: Sealed,
    key_of: KeyOf,
    handles: Mapping[str, int],
    workers: int | None,
    progress: Progress,
) -> None:
    total = sum(file.size for file in sealed.manifest.files)
    done = 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        progress("opening", done, total)

    def fill(number: int, key: bytes, tell: Tell) -> bytes:
        shard = sealed.manifest.shard(number)
        with sealed.open_shard(number, key) as opened:
            place = shard.offset
            for piece in opened.stream():
                _write(handles[shard.file], piece, place)
                place += len(piece)
                tell(len(piece))
        return b""

    order = sorted(sealed.manifest.shards, key=lambda shard: shard.size, reverse=True)
    numbers = [shard.number for shard in order]
    locked = keep_off_disk if _is_kept_off_disk() else None
    for _ in share_out(numbers, key_of, fill, tell, workers=workers, begin=locked):
        pass


def _is_kept_off_disk() -> bool:
    return bool(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)


def _write(handle: int, piece: memoryview, place: int) -> None:
    # Not through a mapping: faulting memory in page by page costs twice what this does.
    done = 0
    try:
        while done < len(piece):
            done += os.pwrite(handle, piece[done:], place + done)
    except OSError as error:
        raise VaultError(f"there is not memory enough for the model: {error.strerror}") from error
