"""Data keys of sealed folders, as the key service that wrapped them opens them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidegate.vault.errors import VaultError
from tidegate.vault.kms_port import Kms
from tidegate.vault.open_sealed import Sealed


class SealedKeys:
    """A broker's `KeySource`: sealed folders by their manifest's digest (hex), and one service."""

    def __init__(self, folders: Mapping[str, Sealed], kms: Kms) -> None:
        self._folders = dict(folders)
        self._kms = kms

    def check(self, manifest: str, shards: Sequence[int]) -> None:
        sealed = self._sealed(manifest)
        for number in shards:
            sealed.wrapped(number)

    def unwrap(self, manifest: str, shards: Sequence[int]) -> tuple[tuple[int, bytes], ...]:
        key_of = self._sealed(manifest).key_from(self._kms)
        return tuple((number, key_of(number)) for number in shards)

    def _sealed(self, manifest: str) -> Sealed:
        found = self._folders.get(manifest)
        if found is None:
            raise VaultError(f"The broker has no sealed folder of manifest {manifest[:16]}.")
        return found
