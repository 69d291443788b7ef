"""Digests of a shard's ciphertext, in groups of 16 chunks: 256 KiB of the model each.

The ciphertext is hashed and not the model, so that a digest tells nothing to whoever has no key,
and everyone can check what he stores. Two groups at a time, since one SHA-256 waits for itself.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, cast

from tidegate._native._kernels import ffi, lib
from tidegate.vault.seal_chunks import CHUNK, HEADER, SEALED_CHUNK, sealed_size

CHUNKS: Final = 16
GROUP: Final = CHUNKS * CHUNK
"""Bytes of the model in a group."""
SEALED_GROUP: Final = CHUNKS * SEALED_CHUNK
"""Bytes of ciphertext in a group."""

_LANES: Final = 2
_SIDE_BY_SIDE: Final = bool(lib.tg_sha256_able())


def count(size: int) -> int:
    """Digests of a shard of `size` bytes: the header's, and one a group."""
    return 1 + -(-(sealed_size(size) - HEADER) // SEALED_GROUP)


def digests(sealed: memoryview) -> list[bytes]:
    """SHA-256 of each group; `sealed` begins with a group and may end within one."""
    found: list[bytes] = []
    step = _LANES * SEALED_GROUP
    whole = len(sealed) - len(sealed) % step if _SIDE_BY_SIDE else 0
    for start in range(0, whole, step):
        out = bytearray(32 * _LANES)
        lib.tg_sha256_rows(
            _pointer(sealed[start : start + step]), SEALED_GROUP, _LANES, _pointer(out), 32
        )
        found += [bytes(out[32 * lane : 32 * lane + 32]) for lane in range(_LANES)]
    for start in range(whole, len(sealed), SEALED_GROUP):
        found.append(hashlib.sha256(sealed[start : start + SEALED_GROUP]).digest())
    return found


def _pointer(data: memoryview | bytearray) -> Any:
    return ffi.from_buffer("uint8_t[]", cast("bytearray", data))
