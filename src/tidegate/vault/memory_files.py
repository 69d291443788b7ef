"""Files that exist in memory only, that nobody finds by name, and that no kernel swaps out.

Where the process may mount, they lie in a tmpfs of its own that is attached nowhere: its pages are
huge where the kernel has such, which makes filling them several times cheaper and reading them
cheaper too, and `noswap` (Linux 6.4) keeps them in memory. Elsewhere each is a memfd, which on a
host with swap is mapped, so that the process's lock on its memory holds it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

SWAPS: Final = Path("/proc/swaps")

# Of every architecture since Linux 5.2, and of include/uapi/linux/mount.h.
_FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 430, 431, 432, 442
_CLOEXEC: Final = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_NOSUID_NODEV_NOEXEC: Final = 0x2 | 0x4 | 0x8
_READ_ONLY: Final = 1
_AT_EMPTY_PATH: Final = 0x1000
_REFUSED: Final = {errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP}

_FUTURE_WRITE: Final = 0x10
"""F_SEAL_FUTURE_WRITE; under F_SEAL_WRITE, older kernels refuse even to map for reading."""
_CLOSED: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _FUTURE_WRITE


class _Attributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


class MemoryFiles:
    """Files that can be written until `shut`; then they can be read, until `close`."""

    def __init__(self, mount: int | None, *, map_them: bool) -> None:
        self._mount = mount
        self._map_them = map_them
        self._handles: list[int] = []
        self._maps: list[mmap.mmap] = []

    def create(self, size: int) -> int:
        """An empty file that will hold `size` bytes: its descriptor. Raises OSError."""
        if self._mount is not None:
            flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
            handle = os.open(".", flags, 0o400, dir_fd=self._mount)
        else:
            handle = os.memfd_create("tidegate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._handles.append(handle)
        os.ftruncate(handle, size)  # the kernel takes huge pages only within a file's size
        if self._mount is None and self._map_them and size:
            self._maps.append(mmap.mmap(handle, size, mmap.MAP_SHARED, mmap.PROT_READ))
        return handle

    def shut(self) -> None:
        """From now on nobody can change them; descriptors stay what they are. Raises OSError."""
        if self._mount is None:
            for handle in self._handles:
                fcntl.fcntl(handle, fcntl.F_ADD_SEALS, _CLOSED)
            return
        for handle in self._handles:
            readable = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(readable, handle, inheritable=False)
            os.close(readable)
        wanted = _Attributes(set=_READ_ONLY)
        size = ctypes.sizeof(wanted)
        _call(_MOUNT_SETATTR, self._mount, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size)

    def close(self) -> None:
        """Let go of them; what an engine has mapped stays until it does too."""
        for mapped in self._maps:
            mapped.close()
        for handle in self._handles:
            os.close(handle)
        if self._mount is not None:
            os.close(self._mount)


def memory_files(swaps: Path = SWAPS) -> MemoryFiles:
    """A tmpfs of its own where the kernel grants one, else memfds. Raises OSError."""
    try:
        return MemoryFiles(_tmpfs(), map_them=False)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return MemoryFiles(None, map_them=has_swap(swaps))


def has_swap(swaps: Path = SWAPS) -> bool:
    """Whether the kernel may write memory to a disk."""
    return len(swaps.read_text().splitlines()) > 1


def _tmpfs() -> int:
    context = _call(_FSOPEN, b"tmpfs", _CLOEXEC)
    try:
        for key, value in ((b"huge", b"within_size"), (b"size", b"0"), (b"mode", b"0700")):
            _call(_FSCONFIG, context, _SET_STRING, key, value, 0)
        _call(_FSCONFIG, context, _SET_FLAG, b"noswap", None, 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, _NOSUID_NODEV_NOEXEC)
    finally:
        os.close(context)


def _call(number: int, *words: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(number, *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
