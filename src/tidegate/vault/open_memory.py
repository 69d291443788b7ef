"""A sealed model as a folder whose files exist in memory only, for engines that open folders.

Every file is a memfd: no disk holds it, no other process finds it by name, and it is gone with the
last mapping. The folder holds links to them and nothing else. What the engine makes of the bytes
lies in ordinary memory; `keep_off_disk` sees to it that the kernel writes neither to a disk.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tidegate.models.cache import Progress, no_progress
from tidegate.vault.errors import VaultError
from tidegate.vault.open_sealed import KeyOf, Sealed

_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_FUTURE_WRITE: Final = 0x10
"""F_SEAL_FUTURE_WRITE; under F_SEAL_WRITE, older kernels refuse even to map for reading."""
_CLOSED: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _FUTURE_WRITE


def keep_off_disk(swaps: Path = Path("/proc/swaps")) -> None:
    """No core dumps of this process, and nothing of it in swap, from now on.

    Raises VaultError where there is swap and the process may not lock its memory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise VaultError(f"core dumps cannot be turned off: {os.strerror(ctypes.get_errno())}")
    if len(swaps.read_text().splitlines()) <= 1:
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
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Iterator[Path]:
    """A folder that engines open as the model's, while the context is open.

    Every shard is decrypted and checked before it is entered; `threads` defaults to one a
    processor. Call `keep_off_disk` first. Raises VaultError, TamperedError.
    """
    handles: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="tidegate-") as place:
        folder = Path(place)
        try:
            for file in sealed.manifest.files:
                handles[file.name] = os.memfd_create(
                    "tidegate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
                )
                link = folder / file.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(f"/proc/self/fd/{handles[file.name]}")
            _fill(sealed, key_of, handles, threads or len(os.sched_getaffinity(0)), progress)
            for handle in handles.values():
                fcntl.fcntl(handle, fcntl.F_ADD_SEALS, _CLOSED)
            yield folder
        finally:
            for handle in handles.values():
                os.close(handle)


def _fill(
    sealed: Sealed,
    key_of: KeyOf,
    handles: Mapping[str, int],
    threads: int,
    progress: Progress,
) -> None:
    total = sum(file.size for file in sealed.manifest.files)
    counting, asking = threading.Lock(), threading.Lock()
    done = 0

    def fill(number: int) -> None:
        nonlocal done
        shard = sealed.manifest.shard(number)
        with asking:  # what stands behind a key need not serve several threads
            key = key_of(number)
        with sealed.open_shard(number, key) as opened:
            place = shard.offset
            for piece in opened.stream():
                _write(handles[shard.file], piece, place)
                place += len(piece)
        with counting:
            done += shard.size
            progress("opening", done, total)

    order = sorted(sealed.manifest.shards, key=lambda shard: shard.size, reverse=True)
    with ThreadPoolExecutor(max(1, threads), "open") as pool:
        waiting = [pool.submit(fill, shard.number) for shard in order]
        try:
            for one in wait(waiting, return_when=FIRST_EXCEPTION).done:
                one.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write(handle: int, piece: memoryview, place: int) -> None:
    # Not through a mapping: faulting memory in page by page costs twice what this does.
    done = 0
    try:
        while done < len(piece):
            done += os.pwrite(handle, piece[done:], place + done)
    except OSError as error:
        raise VaultError(f"there is not memory enough for the model: {error.strerror}") from error
