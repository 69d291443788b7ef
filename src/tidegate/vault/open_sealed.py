"""A sealed model's folder, once its owner's signature was checked: tensors and shards by key."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tidegate.models.cache import Progress, no_progress
from tidegate.transparency.note import MAX_NOTE_BYTES, Verifier
from tidegate.vault import seal_files as files
from tidegate.vault.crew import Tell, share_out
from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.kms_port import Kms, WrappedKey
from tidegate.vault.manifest import MAX_MANIFEST_BYTES, Manifest, Shard
from tidegate.vault.open_shard import OpenShard, check
from tidegate.vault.seal_groups import count
from tidegate.vault.seal_note import Seal, open_note

KeyOf = Callable[[int], bytes]
"""The data key of a shard's number; raises VaultError where there is none to be had."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed folder. What is signed was checked when it was opened, each shard when it is read.

    `roots` holds one digest a shard.
    """

    folder: Path
    seal: Seal
    manifest: Manifest
    roots: tuple[bytes, ...]

    def wrapped(self, number: int) -> WrappedKey:
        """The wrapped data key of a shard. Raises VaultError for one that there is not."""
        return files.read_key(self.folder, self.manifest.shard(number).number)

    def key_from(self, kms: Kms) -> KeyOf:
        """Data keys as a key service unwraps them. Calling it raises KmsError."""

        def key_of(number: int) -> bytes:
            return kms.unwrap(self.wrapped(number), self.manifest.key_context(number))

        return key_of

    def open_shard(self, number: int, key: bytes) -> OpenShard:
        """A shard, to be used as a context manager. Raises VaultError or TamperedError."""
        shard = self.manifest.shard(number)
        path = files.shard_path(self.folder, number)
        found = self._digests(shard)
        return OpenShard(path, shard, found, key, self.manifest.shard_context(number))

    def read_tensor(self, name: str, key_of: KeyOf, file: str | None = None) -> bytearray:
        """A tensor's bytes as the file stores them; nothing else is decrypted."""
        tensor = self.manifest.tensor(name, file)
        with self.open_shard(tensor.shard, key_of(tensor.shard)) as shard:
            return shard.read(tensor.start, tensor.end)

    def check_shard(self, number: int) -> None:
        """Check a shard's ciphertext against the signature, without its key."""
        shard = self.manifest.shard(number)
        check(files.shard_path(self.folder, number), shard, self._digests(shard))

    def check_shards(self, *, workers: int | None = None, progress: Progress = no_progress) -> None:
        """`check_shard` for all, by `workers` processes, one a processor by default."""
        numbers = [shard.number for shard in self.manifest.shards]

        def work(number: int, _: bytes, tell: Tell) -> bytes:
            self.check_shard(number)
            tell(1)
            return b""

        done = 0

        def tell(more: int) -> None:
            nonlocal done
            done += more
            progress("checking shards", done, len(numbers))

        tell(0)
        for _ in share_out(numbers, lambda _: b"", work, tell, workers=workers):
            pass

    def has_digests(self) -> bool:
        """Whether the signature covers every shard's bytes, not only what its key is."""
        shards = self.manifest.shards
        return all(len(self._digests(shard)) == count(shard.size) for shard in shards)

    def _digests(self, shard: Shard) -> tuple[bytes, ...]:
        path = files.hashes_path(self.folder, shard.number)
        raw = files.read_bytes(path, 32 * count(shard.size))
        found = files.split_digests(raw)
        whole = len(raw) in {32, 32 * count(shard.size)}
        if not whole or not hmac.compare_digest(files.root_of(found), self.roots[shard.number]):
            raise TamperedError(f"{path} is not what was signed", file=str(path))
        return found


def open_sealed(
    folder: Path,
    owner: Verifier,
    *,
    manifest: bytes | None = None,
    model: str | None = None,
) -> Sealed:
    """Open a sealed folder in numbered checks; no key is needed and no shard is read.

    `manifest` pins a digest, as a grant does: without it a folder that its owner sealed earlier,
    and replaced since, passes; and without `model` one of another model of his.

    Raises TamperedError where something is not the owner's, VaultError where the folder is not
    whole.
    """
    path = folder / files.NOTE
    if not path.exists() and (folder / files.MANIFEST).exists():
        raise VaultError(f"{folder} is not sealed to the end; run `tidegate vault seal` again")
    # 1. The owner's signature.
    raw = files.read_bytes(path, MAX_NOTE_BYTES)
    seal = open_note(raw.decode("utf-8", "replace"), owner)
    # 2. The model and the sealing that were asked for.
    if model is not None and seal.model != model:
        raise TamperedError(f"{folder} holds the model {seal.model}, not {model}")
    if manifest is not None and not hmac.compare_digest(seal.manifest, manifest):
        raise TamperedError(
            f"{folder} holds the sealing {seal.manifest.hex()}, not {manifest.hex()}: it is older "
            "or newer than what was asked for, or of another model",
            manifest=seal.manifest.hex(),
        )
    # 3. The manifest that was signed; nothing else is parsed.
    text = files.read_bytes(folder / files.MANIFEST, MAX_MANIFEST_BYTES)
    if not hmac.compare_digest(files.sha256(text), seal.manifest):
        raise TamperedError(f"{folder / files.MANIFEST} is not the manifest that was signed")
    read = Manifest.parse(text)
    # 4. One digest a shard, under the signed root.
    roots = files.split_digests(files.read_bytes(folder / files.ROOTS, 32 * seal.shards))
    right = len(roots) == seal.shards == len(read.shards) and read.model == seal.model
    if not right or not hmac.compare_digest(files.root_of(roots), seal.root):
        raise TamperedError(f"{folder / files.ROOTS} is not what was signed")
    return Sealed(folder, seal, read, roots)
