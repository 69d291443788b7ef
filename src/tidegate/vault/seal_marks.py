"""Which shards of an interrupted sealing are finished, under the owner's signature.

A storage that the owner does not trust holds the half-made folder. What it says of a finished shard
is believed only where this owner's key signed it, for this manifest and these source files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tidegate.disk import replace_whole
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import MAX_NOTE_BYTES, Signer
from tidegate.vault import seal_files as files
from tidegate.vault.errors import VaultError
from tidegate.vault.manifest import Manifest, Shard
from tidegate.vault.seal_chunks import sealed_size
from tidegate.vault.seal_groups import count

FORMAT: Final = "tidegate-shard-done/1"


class Marks:
    """Marks in `folder`; `stamps` is what the source's files were when sealing began."""

    def __init__(self, folder: Path, manifest: Manifest, stamps: bytes, signer: Signer) -> None:
        self.folder = folder
        self._manifest = manifest
        self._stamps = files.sha256(stamps).hex()
        self._signer = signer

    def set(self, shard: Shard, root: bytes) -> None:
        """Mark a shard, whose other files are on the disk. Raises OSError."""
        note = self._signer.sign_text(self._text(shard, root))
        replace_whole(self._path(shard), note.encode())

    def root_of(self, shard: Shard) -> bytes | None:
        """The root of a finished shard's digests; None where it has to be sealed."""
        sealed = files.shard_path(self.folder, shard.number)
        try:
            note = files.read_bytes(self._path(shard), MAX_NOTE_BYTES).decode("utf-8", "replace")
            raw = files.read_bytes(
                files.hashes_path(self.folder, shard.number), 32 * count(shard.size)
            )
            files.read_key(self.folder, shard.number)
            root = files.root_of(files.split_digests(raw))
            whole = sealed.stat().st_size == sealed_size(shard.size)
            signed = self._signer.verifier.open_text(note) == self._text(shard, root)
        except (VaultError, CheckpointError, OSError):
            return None
        return root if whole and signed else None

    def clear(self) -> None:
        """Remove the marks of a folder that is whole. Raises OSError."""
        for shard in self._manifest.shards:
            self._path(shard).unlink(missing_ok=True)

    def _text(self, shard: Shard, root: bytes) -> str:
        lines = (FORMAT, self._manifest.digest.hex(), self._stamps, str(shard.number), root.hex())
        return "".join(f"{line}\n" for line in lines)

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.number:05d}.done"
