"""The folder of a sealed model: names, and what small files hold. Source: spec/sealed-shards.md.

`manifest.json` says what was sealed, `NNNNN.shard` is a shard's ciphertext, `NNNNN.hashes` its
digests, `NNNNN.key` its wrapped data key, `roots` one digest a shard, and `seal.txt` the signed
note over all of it, written last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tidegate.disk import replace_whole
from tidegate.transparency.tree import frontier_root, grow, leaf_hash
from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.kms_port import WrappedKey

MANIFEST: Final = "manifest.json"
ROOTS: Final = "roots"
NOTE: Final = "seal.txt"
DIGEST: Final = 32

_MAX_KEY_BYTES: Final = 65_536


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`wrapped` in base64."""

    kms: str
    key: str
    version: int
    wrapped: bytes


def shard_path(folder: Path, number: int) -> Path:
    """The ciphertext."""
    return folder / f"{number:05d}.shard"


def hashes_path(folder: Path, number: int) -> Path:
    """The ciphertext's digests."""
    return folder / f"{number:05d}.hashes"


def key_path(folder: Path, number: int) -> Path:
    """The wrapped data key."""
    return folder / f"{number:05d}.key"


def read_key(folder: Path, number: int) -> WrappedKey:
    """Raises TamperedError for what is no wrapped key, VaultError where there is none."""
    path = key_path(folder, number)
    raw = read_bytes(path, _MAX_KEY_BYTES)
    try:
        held = msgspec.json.decode(raw, type=_Key)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TamperedError(f"{path} is not a wrapped key: {error}", file=str(path)) from error
    return WrappedKey(held.kms, held.key, held.version, held.wrapped)


def write_key(folder: Path, number: int, key: WrappedKey) -> None:
    """Put a wrapped key in place, in one step. Raises OSError."""
    held = _Key(key.kms, key.key, key.version, key.wrapped)
    replace_whole(key_path(folder, number), msgspec.json.encode(held) + b"\n")


def read_bytes(path: Path, most: int) -> bytes:
    """A small file. Raises VaultError where it cannot be read, TamperedError where it is larger."""
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise VaultError(f"cannot read {path}: {error.strerror}", file=str(path)) from error
    if len(raw) > most:
        raise TamperedError(f"{path} is larger than {most} bytes", file=str(path))
    return raw


def root_of(digests: Sequence[bytes]) -> bytes:
    """RFC 6962's root over entries that are digests themselves."""
    frontier: tuple[bytes, ...] = ()
    for size, digest in enumerate(digests):
        frontier = grow(frontier, size, leaf_hash(digest))
    return frontier_root(frontier)


def split_digests(raw: bytes) -> tuple[bytes, ...]:
    """Digests of 32 bytes each, one behind the other; a rest is one that is too short."""
    return tuple(raw[start : start + DIGEST] for start in range(0, len(raw), DIGEST))


def sha256(data: bytes | memoryview) -> bytes:
    """The digest's 32 bytes."""
    return hashlib.sha256(data).digest()
