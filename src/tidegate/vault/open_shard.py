"""Opens one shard: whole, as a stream, or by range, with every group's digest checked first.

The digests stand under the owner's signature, so that even somebody with the data key, who could
encrypt other weights under it, cannot put them here. What is hashed is what is decrypted: both read
one buffer.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from cryptography.exceptions import InvalidTag

from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.manifest import Shard
from tidegate.vault.seal_chunks import (
    CHUNK,
    HEADER,
    SEALED_CHUNK,
    TAG,
    Chunks,
    Decryptor,
    sealed_size,
)
from tidegate.vault.seal_files import sha256
from tidegate.vault.seal_groups import CHUNKS, GROUP, SEALED_GROUP, digests

_BLOCK: Final = 2 * SEALED_GROUP


class OpenShard:
    """A shard that its data key opens; a context manager.

    `found` are its digests, which the caller has checked: the header's, and one a group where it
    was sealed with them. Raises
    TamperedError where key, context or header is another's, or the file has another size;
    VaultError where it cannot be read.
    """

    def __init__(
        self, path: Path, shard: Shard, found: Sequence[bytes], key: bytes, context: bytes
    ) -> None:
        self._path = path
        self._shard = shard
        self._found = found
        self._key, self._context = key, context
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise VaultError(f"cannot read {path}: {error.strerror}", file=str(path)) from error
        try:
            size, expected = os.fstat(self._handle).st_size, sealed_size(shard.size)
            if size != expected:
                raise self._tampered(f"has {size} bytes and was sealed with {expected}")
            self._header = bytes(self._read(0, bytearray(HEADER)))
            if not hmac.compare_digest(sha256(self._header), found[0]):
                raise self._tampered("begins otherwise than it was sealed")
            self._chunks = Chunks(key, context, self._header)
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> OpenShard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._handle)

    def read(self, start: int, end: int) -> bytearray:
        """Bytes [start, end) of the shard's plaintext. Raises VaultError beyond it."""
        if not 0 <= start <= end <= self._shard.size:
            raise VaultError(f"shard {self._shard.number} has no bytes {start} to {end}")
        out = bytearray()
        sealed, plain = bytearray(SEALED_GROUP), bytearray(CHUNK)
        for group in range(start // GROUP, -(-end // GROUP)):
            part = self._checked(HEADER + group * SEALED_GROUP, sealed)
            low, high = max(start - group * GROUP, 0), min(end - group * GROUP, GROUP)
            for number in range(low // CHUNK, -(-high // CHUNK)):
                chunk = part[number * SEALED_CHUNK : (number + 1) * SEALED_CHUNK]
                opened = memoryview(plain)[: len(chunk) - TAG]
                self._chunks.open(group * CHUNKS + number, chunk, opened)
                first = number * CHUNK
                out += opened[max(low - first, 0) : high - first]
        plain[:] = bytes(CHUNK)
        return out

    def stream(self) -> Iterator[memoryview]:
        """All of the plaintext, a piece at a time; each is good until the next is asked for.

        Only the end tells that nothing is missing. Raises TamperedError.
        """
        decryptor = Decryptor(self._key, self._context)
        sealed, plain = bytearray(_BLOCK), bytearray(_BLOCK)
        try:
            decryptor.update(self._header)
            for place in range(HEADER, sealed_size(self._shard.size), _BLOCK):
                made = decryptor.update_into(self._checked(place, sealed), plain)
                yield memoryview(plain)[:made]
            yield memoryview(decryptor.finalize())
        except InvalidTag as error:
            raise self._tampered("does not decrypt: it was changed") from error
        finally:
            plain[:] = bytes(_BLOCK)

    def _checked(self, place: int, buffer: bytearray) -> memoryview:
        """As much ciphertext from `place` on, where a group begins, as fits the buffer."""
        part = self._read(place, buffer)
        if len(self._found) == 1:  # sealed without digests of what follows the header
            return part
        first = 1 + (place - HEADER) // SEALED_GROUP
        for number, digest in enumerate(digests(part), first):
            if not hmac.compare_digest(digest, self._found[number]):
                raise self._tampered(f"is not what was sealed, in group {number - 1}")
        return part

    def _read(self, place: int, buffer: bytearray) -> memoryview:
        size = min(len(buffer), sealed_size(self._shard.size) - place)
        part = memoryview(buffer)[:size]
        if fill(self._handle, part, place) < size:
            raise self._tampered("became shorter while it was read")
        return part

    def _tampered(self, how: str) -> TamperedError:
        return TamperedError(f"{self._path} {how}", file=str(self._path), shard=self._shard.number)


def check(path: Path, shard: Shard, found: Sequence[bytes]) -> None:
    """Check a shard's ciphertext against its digests, without a key. Raises as `OpenShard`.

    Of one that was sealed without digests, only length and header can be checked.
    """
    expected = sealed_size(shard.size)
    buffer = bytearray(_BLOCK)
    try:
        with path.open("rb", buffering=0) as file:
            whole = os.fstat(file.fileno()).st_size == expected
            header = memoryview(buffer)[:HEADER]
            fill(file.fileno(), header, 0)
            got = [sha256(header)]
            for place in range(HEADER, expected if len(found) > 1 else 0, _BLOCK):
                size = fill(file.fileno(), memoryview(buffer), place)
                got += digests(memoryview(buffer)[:size])
    except OSError as error:
        raise VaultError(f"cannot read {path}: {error.strerror}", file=str(path)) from error
    if not whole or got != list(found):
        raise TamperedError(f"{path} is not what was sealed", file=str(path), shard=shard.number)


def fill(handle: int, part: memoryview, place: int) -> int:
    """Read from `place` on until `part` is full or the file ends; bytes read. Raises OSError."""
    got = 0
    while got < len(part):
        more = os.preadv(handle, [part[got:]], place + got)
        if not more:
            break
        got += more
    return got
