"""A small model, sealed: its folder, the key service, the owner's key, and the sealed folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.transparency.note import Signer
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.open_sealed import KeyOf, Sealed, open_sealed
from tidegate.vault.seal import Sealing, seal

OWNER = Signer("owner.example/weights", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
MODEL = "example/small"
SHARD_BYTES = 600_000
"""Two groups and a bit: tensors in several shards, groups that end within one."""


def numbers(title: str, size: int) -> np.ndarray:
    """Bytes that look random, the same every time."""
    return np.frombuffer(hashlib.shake_256(title.encode()).digest(size), np.uint8)


TENSORS: Mapping[str, np.ndarray] = {
    "embed": numbers("embed", 700_000).reshape(7, 100_000),
    "layer.0": numbers("layer.0", 262_144),
    "layer.1": numbers("layer.1", 300_000).reshape(3, -1),
    "layer.2": numbers("layer.2", 16_384),
    "norm": numbers("norm", 1_000).view(np.float32),
    "nothing": np.empty((0, 4), np.float32),
}


def write_model(folder: Path, tensors: Mapping[str, np.ndarray] = TENSORS) -> Path:
    """A folder with tensors, a configuration, an empty file and one in a folder of its own."""
    folder.mkdir()
    safetensors.numpy.save_file(dict(tensors), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "empty.txt").touch()
    (folder / "more").mkdir()
    (folder / "more" / "vocabulary.txt").write_text("one\ntwo\n")
    (folder / ".hidden").write_text("not sealed")
    return folder


@dataclass(frozen=True, slots=True)
class SealedWorld:
    """Where everything lies."""

    model: Path
    folder: Path
    kms: LocalKms
    sealing: Sealing

    def open(self) -> Sealed:
        """The sealed folder, its signature checked."""
        return open_sealed(self.folder, OWNER.verifier)

    def keys(self) -> KeyOf:
        """Data keys, as the key service unwraps them."""
        return self.open().key_from(self.kms)

    def plain(self, number: int) -> bytes:
        """What shard `number` was made of."""
        shard = self.sealing.manifest.shards[number]
        raw = (self.model / shard.file).read_bytes()
        return raw[shard.offset : shard.offset + shard.size]


def sealed_world(
    place: Path, name: str = "a", *, model: str = MODEL, with_digests: bool = True
) -> SealedWorld:
    """Seal a model; worlds of one place share a key service."""
    place.mkdir(exist_ok=True)
    source = place / "model"
    if not source.exists():
        write_model(source)
    held = place / "kms"
    kms = LocalKms(held) if held.exists() else LocalKms.create(held)
    done = seal(
        source,
        place / name,
        model=model,
        kms=kms,
        signer=OWNER,
        shard_bytes=SHARD_BYTES,
        with_digests=with_digests,
        workers=2,
    )
    return SealedWorld(source, place / name, kms, done)
