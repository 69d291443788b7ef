"""Write spec/vectors/sealed-shards.json from the code: manifests, shards, digests, seals.

Run `python tools/make_sealed_vectors.py` after a change of format, and never to make a failing test
pass: the file is what other implementations are held to. Encryption draws a random salt, so shards
that are in the file already are kept.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vector_files import lines

from tidegate.transparency.note import Signer
from tidegate.vault.manifest import File, Manifest, Shard, Tensor
from tidegate.vault.seal_chunks import HEADER, Encryptor
from tidegate.vault.seal_files import root_of, sha256
from tidegate.vault.seal_groups import digests
from tidegate.vault.seal_note import Seal, sign

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
NAME = "sealed-shards.json"
SIGNER = Signer("owner.example/weights", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))

Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]
Note = Annotated[str, msgspec.Meta(min_length=10)]


class Struct(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all records: unknown fields are an error."""


class ManifestCase(Struct):
    """text: the manifest's bytes. digest: its SHA-256. contexts of `shard`. A case without digest
    is to be refused."""

    note: Note
    text: str
    digest: Hex | None = None
    shard: int = 0
    shard_context: str = ""
    key_context: str = ""


class ShardCase(Struct):
    """The plaintext is `size` bytes of SHAKE256("plain"). sealed: the header in hex; digests: one
    for the header, one a group; root: theirs. ciphertext: the SHA-256 of header and chunks; small
    ones in full, in `whole`."""

    note: Note
    size: int
    key: Hex
    context: str
    header: Hex
    ciphertext: Hex
    digests: list[Hex]
    root: Hex
    whole: Hex = ""


class SealCase(Struct):
    """note_text: what is signed and the signature of `key`, over shards with these roots."""

    note: Note
    model: str
    manifest: Hex
    roots: list[Hex]
    key: str
    note_text: str


class SealedFile(Struct):
    spec: str
    manifests: list[ManifestCase]
    shards: list[ShardCase]
    seals: list[SealCase]


def plain(size: int) -> bytes:
    """The vectors' plaintext."""
    return hashlib.shake_256(b"plain").digest(size)


def _manifest(note: str, manifest: Manifest, shard: int) -> ManifestCase:
    return ManifestCase(
        note,
        manifest.encode().decode(),
        manifest.digest.hex(),
        shard,
        manifest.shard_context(shard).decode(),
        manifest.key_context(shard).decode(),
    )


def _shard(note: str, size: int, known: dict[str, ShardCase]) -> ShardCase:
    if note in known:
        return known[note]
    key, context = hashlib.sha256(note.encode()).digest(), f"{note}\n"
    encryptor = Encryptor(key, context.encode())
    sealed = encryptor.update(plain(size)) + encryptor.finalize()
    found = [sha256(sealed[:HEADER]), *digests(memoryview(sealed)[HEADER:])]
    return ShardCase(
        note,
        size,
        key.hex(),
        context,
        sealed[:HEADER].hex(),
        sha256(sealed).hex(),
        [digest.hex() for digest in found],
        root_of(found).hex(),
        sealed.hex() if len(sealed) < 200 else "",
    )


def sealed_file() -> SealedFile:
    """All cases."""
    path = VECTORS / NAME
    known = msgspec.json.decode(path.read_bytes(), type=SealedFile).shards if path.exists() else []
    kept = {case.note: case for case in known}
    small = Manifest(
        "example/small",
        "00112233445566778899aabbccddeeff",
        (File("a", 3),),
        (Shard(0, "a", 0, 3),),
        (),
    )
    large = Manifest(
        "example/large",
        "ffeeddccbbaa99887766554433221100",
        (File("config.json", 0), File("w/model.safetensors", 300)),
        (
            Shard(0, "config.json", 0, 0),
            Shard(1, "w/model.safetensors", 0, 200),
            Shard(2, "w/model.safetensors", 200, 100),
        ),
        (
            Tensor("layer.0", 1, 80, 200, "BF16", (6, 10)),
            Tensor("layer.1", 2, 0, 100, "F32", (25,)),
        ),
    )
    text = small.encode().decode()
    refused = {
        "a space behind a comma": text.replace(",", ", ", 1),
        "a member too many": text[:-1] + ',"more":1}',
        "a member that is not known in place of one": text.replace('"model"', '"x"', 1),
        "a file name that leads out of the folder": text.replace('"a"', '"../a"'),
        "an absolute file name": text.replace('"a"', '"/a"'),
        "a shard that is shorter than its file": text.replace(
            '"offset":0,"size":3', '"offset":0,"size":2'
        ),
        "a shard of another number": text.replace('"number":0', '"number":1'),
        "an upper-case digit in the sealing's id": text.replace("aabb", "AAbb"),
        "a name with an escape": text.replace("example/small", "example\\u002fsmall"),
        "another format": text.replace("manifest/1", "manifest/2"),
        "a negative size": text.replace('"size":3', '"size":-3'),
        "a tensor beyond its shard": text.replace(
            '"tensors":[]',
            '"tensors":[{"name":"t","shard":0,"start":0,"end":4,"dtype":"U8","shape":[4]}]',
        ),
    }
    roots = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    seal = Seal(large.model, large.digest, 3, root_of(roots))
    return SealedFile(
        spec="spec/sealed-shards.md",
        manifests=[
            _manifest("one file in one shard, without tensors", small, 0),
            _manifest("an empty file, a file in two shards, two tensors", large, 2),
            *(ManifestCase(f"refused: {why}", bad) for why, bad in refused.items()),
        ],
        shards=[
            _shard("an empty shard is one empty chunk", 0, kept),
            _shard("one short chunk", 100, kept),
            _shard("a whole chunk has an empty one behind it", 16_384, kept),
            _shard("a group has one of a single empty chunk behind it", 262_144, kept),
            _shard("three groups, the last one short", 600_000, kept),
        ],
        seals=[
            SealCase(
                "a seal over three shards",
                large.model,
                large.digest.hex(),
                [root.hex() for root in roots],
                SIGNER.verifier.encode(),
                sign(seal, SIGNER),
            )
        ],
    )


def schema() -> bytes:
    """The file's schema."""
    described = msgspec.json.schema(SealedFile)
    return msgspec.json.format(msgspec.json.encode(described), indent=2) + b"\n"


def build() -> dict[str, bytes]:
    """Contents by file name."""
    return {NAME: lines(sealed_file()), "sealed-shards.schema.json": schema()}


if __name__ == "__main__":
    for name, content in build().items():
        (VECTORS / name).write_bytes(content)
