"""Seals a model's folder: every shard under a random key of its own, then one signature.

A shard is finished once its mark is on the disk, a note that the owner's key signed; it is written
after ciphertext, digests and wrapped key are. Without it the shard is made again, under another
key. So what is signed in the end is what this key's owner encrypted, whoever wrote to the folder
meanwhile. The seal is written last: a folder that has one is whole. Only ciphertext is written.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tidegate.disk import replace_whole, sync_folder
from tidegate.models.cache import Progress, no_progress
from tidegate.transparency.note import Signer
from tidegate.vault import seal_files as files
from tidegate.vault.crew import Tell, share_out
from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.kms_port import DATA_KEY_BYTES, Kms, WrappedKey
from tidegate.vault.manifest import MAX_MANIFEST_BYTES, Manifest, Shard
from tidegate.vault.open_shard import fill
from tidegate.vault.seal_chunks import HEADER, Encryptor
from tidegate.vault.seal_groups import GROUP, SEALED_GROUP, digests
from tidegate.vault.seal_marks import Marks
from tidegate.vault.seal_note import Seal, sign
from tidegate.vault.seal_plan import SHARD_BYTES, plan

PROGRESS: Final = "progress.json"
"""What the source's files were when sealing began; gone once the folder is whole."""

_BLOCK: Final = 2 * GROUP
"""Read, encrypted, hashed and written at a time; with its ciphertext it stays in a core's cache."""


class _Stamp(msgspec.Struct, frozen=True):
    """By this, a file that was written to is told from one that was not."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Sealing:
    """What a call did: the manifest, and how many shards an earlier call had finished."""

    manifest: Manifest
    kept: int


def seal(
    source: Path,
    out: Path,
    *,
    model: str,
    kms: Kms,
    signer: Signer,
    shard_bytes: int = SHARD_BYTES,
    with_digests: bool = True,
    workers: int | None = None,
    inspect: Callable[[Manifest], None] | None = None,
    progress: Progress = no_progress,
) -> Sealing:
    """Seal every file of `source` into the folder `out`, or finish doing so.

    Without digests the signature covers what the keys are, but not each byte: as with other
    tools, whoever has a shard's key can then replace the shard. `workers` are processes, by
    default one a processor. `inspect` may look at the source and raise: what is sealed is what it
    saw.

    Raises VaultError where `out` is sealed already, holds something else, or was begun from files
    that have changed since; KmsError; OSError for the disk.
    """
    _require_apart(source, out)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        # 1. What is sealed, and that it is still what an interrupted call began with.
        manifest, stamps = _begin(source, out, model, shard_bytes)
        if inspect is not None:
            inspect(manifest)
        # 2. Every shard that is not finished yet.
        marks = Marks(out, manifest, msgspec.json.encode(stamps), signer)
        kept = {s.number: root for s in manifest.shards if (root := marks.root_of(s)) is not None}
        run = _Run(source, manifest, kms, marks, with_digests, progress)
        missing = [shard for shard in manifest.shards if shard.number not in kept]
        made = run.seal(missing, workers)
        # 3. Nobody wrote to the source meanwhile.
        if _stamps(source, manifest) != stamps:
            raise VaultError(f"{source} was written to while it was sealed; seal it anew")
        # 4. The digests of all shards, and the signature over everything: now it is whole.
        found = {**kept, **made}
        roots = [found[shard.number] for shard in manifest.shards]
        replace_whole(out / files.ROOTS, b"".join(roots))
        stated = Seal(model, manifest.digest, len(roots), files.root_of(roots))
        replace_whole(out / files.NOTE, sign(stated, signer).encode())
        marks.clear()
        (out / PROGRESS).unlink(missing_ok=True)
        sync_folder(out)
    return Sealing(manifest, len(kept))


class _Run:
    """One call's shards."""

    def __init__(
        self,
        source: Path,
        manifest: Manifest,
        kms: Kms,
        marks: Marks,
        with_digests: bool,
        progress: Progress,
    ) -> None:
        self._source = source
        self._out = marks.folder
        self._manifest = manifest
        self._kms = kms
        self._marks = marks
        self._with_digests = with_digests
        self._progress = progress
        self._total = sum(shard.size for shard in manifest.shards)
        self._done = 0
        self._wrapped: dict[int, WrappedKey] = {}

    def seal(self, missing: list[Shard], workers: int | None) -> dict[int, bytes]:
        """Seal the shards, largest first, so that no worker is left with one; their roots."""
        self._tell(self._total - sum(shard.size for shard in missing))
        order = sorted(missing, key=lambda shard: shard.size, reverse=True)
        numbers = [shard.number for shard in order]
        made = share_out(numbers, self._key, self._ciphertext, self._tell, workers=workers)
        return {number: self._finish(number, digests) for number, digests in made}

    def _key(self, number: int) -> bytes:
        key = secrets.token_bytes(DATA_KEY_BYTES)
        self._wrapped[number] = self._kms.wrap(key, self._manifest.key_context(number))
        return key

    def _finish(self, number: int, found: bytes) -> bytes:
        replace_whole(files.hashes_path(self._out, number), found)
        files.write_key(self._out, number, self._wrapped.pop(number))
        root = files.root_of(files.split_digests(found))
        self._marks.set(self._manifest.shard(number), root)
        return root

    def _ciphertext(self, number: int, key: bytes, tell: Tell) -> bytes:
        """Write a shard's; its digests."""
        final = files.shard_path(self._out, number)
        part = final.with_name(final.name + ".part")
        part.unlink(missing_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            found = self._encrypt(key, self._manifest.shard(number), handle, tell)
            os.fsync(handle)
        finally:
            os.close(handle)
        part.replace(final)
        return b"".join(found)

    def _encrypt(self, key: bytes, shard: Shard, handle: int, tell: Tell) -> list[bytes]:
        encryptor = Encryptor(key, self._manifest.shard_context(shard.number))
        plain, sealed = bytearray(_BLOCK), bytearray(HEADER + 3 * SEALED_GROUP)
        head, body = memoryview(sealed)[:HEADER], memoryview(sealed)[HEADER:]
        found: list[bytes] = []
        with (self._source / shard.file).open("rb", buffering=0) as file:
            for start in range(0, max(shard.size, 1), _BLOCK):
                size = min(_BLOCK, shard.size - start)
                part = memoryview(plain)[:size]
                if fill(file.fileno(), part, shard.offset + start) < size:
                    raise VaultError(f"{shard.file} became shorter while it was sealed")
                room = body if start else memoryview(sealed)
                made = encryptor.update_into(part, room) - (0 if start else HEADER)
                if start + size == shard.size:
                    last = encryptor.finalize()
                    body[made : made + len(last)] = last
                    made += len(last)
                if not start:
                    found.append(files.sha256(head))
                    _write(handle, head)
                if self._with_digests:
                    found += digests(body[:made])
                _write(handle, body[:made])
                tell(size)
        plain[:] = bytes(_BLOCK)
        return found

    def _tell(self, size: int) -> None:
        self._done += size
        self._progress("sealing", self._done, self._total)


def _begin(
    source: Path, out: Path, model: str, shard_bytes: int
) -> tuple[Manifest, Mapping[str, _Stamp]]:
    if (out / files.NOTE).exists():
        raise VaultError(f"{out} is sealed already; choose another folder", file=str(out))
    if not (out / PROGRESS).exists():
        kept = {_LOCK, files.MANIFEST, files.MANIFEST + ".new", PROGRESS + ".new"}
        if strangers := sorted(path.name for path in out.iterdir() if path.name not in kept):
            raise VaultError(f"{out} is not empty: it holds {strangers[0]}", file=str(out))
        manifest = plan(source, model, secrets.token_hex(16), shard_bytes)
        stamps = _stamps(source, manifest)
        replace_whole(out / files.MANIFEST, manifest.encode())
        replace_whole(out / PROGRESS, msgspec.json.encode(stamps))
        return manifest, stamps
    manifest = Manifest.parse(files.read_bytes(out / files.MANIFEST, MAX_MANIFEST_BYTES))
    stamps = _read_stamps(out / PROGRESS)
    again = plan(source, model, manifest.sealing, shard_bytes)
    if again != manifest or _stamps(source, manifest) != stamps:
        raise VaultError(
            f"{source}, the model's id or the shards' size is not what {out} was begun with; "
            "seal into an empty folder",
            file=str(out),
        )
    return manifest, stamps


def _stamps(source: Path, manifest: Manifest) -> Mapping[str, _Stamp]:
    found = {}
    for file in manifest.files:
        seen = (source / file.name).stat()
        found[file.name] = _Stamp(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
    return found


def _read_stamps(path: Path) -> Mapping[str, _Stamp]:
    try:
        raw = files.read_bytes(path, MAX_MANIFEST_BYTES)
        return msgspec.json.decode(raw, type=dict[str, _Stamp])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TamperedError(f"{path} is damaged; seal into an empty folder") from error


def _write(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _require_apart(source: Path, out: Path) -> None:
    if not source.is_dir():
        raise VaultError(f"{source} is no folder; seal a model's folder", file=str(source))
    here, there = source.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise VaultError("the sealed folder and the model's lie in each other; keep them apart")


_LOCK: Final = ".lock"


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    with (out / _LOCK).open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise VaultError(f"another process is sealing into {out}") from error
        yield
