"""What somebody who can write to the storage tries with sealed shards. All of it is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.cobblestone import Cobblestone256Encryptor
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sealed_world import MODEL, OWNER, SealedWorld, sealed_world

from tidegate.transparency.note import Signer
from tidegate.vault import seal_files as files
from tidegate.vault.errors import KmsError, RevokedKeyError, TamperedError, VaultError
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.manifest import Manifest
from tidegate.vault.open_memory import in_memory
from tidegate.vault.open_sealed import open_sealed
from tidegate.vault.seal_chunks import HEADER, SEALED_CHUNK
from tidegate.vault.seal_note import Seal, sign

SHARD = 3
"""One with several groups and a last chunk that is shorter."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """Three sealings under one key service: of a model twice, of another model once."""
    place = tmp_path_factory.mktemp("attacked")
    sealed_world(place, "a")
    sealed_world(place, "newer")
    sealed_world(place, "other", model="example/other")
    sealed_world(place, "bare", with_digests=False)
    return place


@pytest.fixture
def place(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "attacked"))


def world_of(place: Path, name: str = "a") -> SealedWorld:
    sealed = open_sealed(place / name, OWNER.verifier)
    return SealedWorld(place / "model", place / name, LocalKms(place / "kms"), sealed)  # type: ignore[arg-type]


def open_all(world: SealedWorld) -> None:
    with in_memory(world.open(), world.keys()):
        pass


def read_all(world: SealedWorld) -> None:
    """The same by ranges: each tensor by itself."""
    opened = world.open()
    for shard in opened.manifest.shards:
        with opened.open_shard(shard.number, world.keys()(shard.number)) as one:
            one.read(0, shard.size)


def refused(world: SealedWorld, error: type[VaultError] = TamperedError) -> None:
    """Neither way of opening gives anything out."""
    for attempt in (open_all, read_all):
        with pytest.raises(error):
            attempt(world)


def test_what_nobody_touched_opens(place: Path):
    for name in ("a", "newer", "other", "bare"):
        open_all(world_of(place, name))
        read_all(world_of(place, name))


@pytest.mark.parametrize("name", ["a", "bare"])
@pytest.mark.parametrize(
    "size",
    [
        0,
        10,
        HEADER,
        HEADER + SEALED_CHUNK,
        HEADER + 5 * SEALED_CHUNK,
        HEADER + 5 * SEALED_CHUNK + 16,
        -1,
    ],
)
def test_a_truncated_shard_is_refused(place: Path, name: str, size: int):
    path = files.shard_path(place / name, SHARD)
    raw = path.read_bytes()
    path.write_bytes(raw[:size])
    refused(world_of(place, name))


@pytest.mark.parametrize("name", ["a", "bare"])
def test_a_shard_with_bytes_behind_it_is_refused(place: Path, name: str):
    path = files.shard_path(place / name, SHARD)
    path.write_bytes(path.read_bytes() + bytes(SEALED_CHUNK))
    refused(world_of(place, name))


@pytest.mark.parametrize("name", ["a", "bare"])
def test_reordered_chunks_are_refused(place: Path, name: str):
    path = files.shard_path(place / name, SHARD)
    raw = path.read_bytes()
    one, two = raw[HEADER:][:SEALED_CHUNK], raw[HEADER + SEALED_CHUNK :][:SEALED_CHUNK]
    path.write_bytes(raw[:HEADER] + two + one + raw[HEADER + 2 * SEALED_CHUNK :])
    refused(world_of(place, name))


@pytest.mark.parametrize("name", ["a", "bare"])
@pytest.mark.parametrize("place_of", [0, 30, HEADER, HEADER + 20_000, -1])
def test_a_flipped_bit_is_refused(place: Path, name: str, place_of: int):
    path = files.shard_path(place / name, SHARD)
    raw = bytearray(path.read_bytes())
    raw[place_of] ^= 1
    path.write_bytes(raw)
    refused(world_of(place, name))


def swap(one: Path, other: Path) -> None:
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


PARTS: tuple[Callable[[Path, int], Path], ...] = (
    files.shard_path,
    files.hashes_path,
    files.key_path,
)


@pytest.mark.parametrize("parts", [PARTS[:1], PARTS[1:2], PARTS[:2], PARTS], ids=len)
@pytest.mark.parametrize("name", ["a", "bare"])
def test_shards_that_were_swapped_are_refused(place: Path, name: str, parts):
    for part in parts:
        swap(part(place / name, 2), part(place / name, SHARD))
    refused(world_of(place, name), KmsError if parts == PARTS else TamperedError)


@pytest.mark.parametrize("name", ["a", "bare"])
def test_swapped_keys_open_nothing(place: Path, name: str):
    swap(files.key_path(place / name, 2), files.key_path(place / name, SHARD))
    refused(world_of(place, name), KmsError)


@pytest.mark.parametrize("other", ["other", "newer"])
@pytest.mark.parametrize("parts", [PARTS[:1], PARTS[:2], PARTS], ids=len)
def test_a_shard_of_another_model_or_sealing_is_refused(place: Path, other: str, parts):
    for part in parts:
        shutil.copy(part(place / other, SHARD), part(place / "a", SHARD))
    refused(world_of(place), KmsError if parts == PARTS else TamperedError)


@pytest.mark.parametrize("other", ["other", "newer"])
def test_a_key_of_another_model_or_sealing_opens_nothing(place: Path, other: str):
    shutil.copy(files.key_path(place / other, SHARD), files.key_path(place / "a", SHARD))
    refused(world_of(place), KmsError)


@pytest.mark.parametrize("name", [files.MANIFEST, files.ROOTS, files.NOTE])
@pytest.mark.parametrize("other", ["other", "newer"])
def test_parts_of_another_sealing_do_not_fit(place: Path, name: str, other: str):
    shutil.copy(place / other / name, place / "a" / name)
    with pytest.raises(TamperedError):
        open_sealed(place / "a", OWNER.verifier)


def test_a_stale_manifest_is_refused_where_the_current_one_is_named(place: Path):
    current = open_sealed(place / "newer", OWNER.verifier).manifest.digest
    shutil.rmtree(place / "newer")
    shutil.copytree(place / "a", place / "newer")  # the older sealing, whole and rightly signed
    assert open_sealed(place / "newer", OWNER.verifier)
    with pytest.raises(TamperedError, match="older or newer"):
        open_sealed(place / "newer", OWNER.verifier, manifest=current)


def test_a_folder_of_another_model_of_the_same_owner_is_refused_where_the_model_is_named(
    place: Path,
):
    shutil.rmtree(place / "a")
    shutil.copytree(place / "other", place / "a")
    with pytest.raises(TamperedError, match="holds the model example/other"):
        open_sealed(place / "a", OWNER.verifier, model=MODEL)


@pytest.mark.parametrize("name", ["a", "bare"])
def test_a_wrong_data_key_opens_nothing(place: Path, name: str):
    world = world_of(place, name)
    for key in (bytes(32), world.keys()(2)):
        with pytest.raises(TamperedError, match="this key does not open"):
            world.open().open_shard(SHARD, key)


def test_a_revoked_key_opens_nothing_even_from_a_kept_copy(place: Path):
    world = world_of(place)
    kept = {path: path.read_bytes() for path in world.folder.glob("*.key")}
    from tidegate.vault.rewrap import rewrap

    world.kms.rotate()
    rewrap(world.open(), world.kms)
    world.kms.revoke(1)
    open_all(world)
    for path, raw in kept.items():
        path.write_bytes(raw)
    refused(world, RevokedKeyError)


def test_another_signer_is_refused(place: Path):
    stranger = Signer(OWNER.name, Ed25519PrivateKey.generate())
    opened = open_sealed(place / "a", OWNER.verifier)
    (place / "a" / files.NOTE).write_text(sign(opened.seal, stranger))
    with pytest.raises(TamperedError):
        open_sealed(place / "a", OWNER.verifier)


def test_a_checkpoint_or_receipt_of_the_owner_is_no_seal(place: Path):
    for text in ("owner.example/weights\n3\nAAAA\n", "tidegate-receipt/1\ntier receipt\n"):
        (place / "a" / files.NOTE).write_text(OWNER.sign_text(text))
        with pytest.raises(TamperedError):
            open_sealed(place / "a", OWNER.verifier)


def test_somebody_with_the_data_key_cannot_put_other_weights_there(place: Path):
    world = world_of(place)
    manifest = world.open().manifest
    key = world.keys()(SHARD)
    forger = Cobblestone256Encryptor(key, manifest.shard_context(SHARD))
    forged = forger.update(bytes(manifest.shards[SHARD].size)) + forger.finalize()
    path = files.shard_path(world.folder, SHARD)
    assert len(forged) == path.stat().st_size
    path.write_bytes(forged)
    refused(world)
    # Nor with digests to match: those stand under the owner's root.
    raw = files.hashes_path(world.folder, SHARD).read_bytes()
    assert raw[:32] != files.sha256(forged[:HEADER])
    files.hashes_path(world.folder, SHARD).write_bytes(files.sha256(forged[:HEADER]) + raw[32:])
    refused(world)


def test_without_digests_somebody_with_the_data_key_can(place: Path):
    """What the option gives up, so that nobody takes it for free."""
    world = world_of(place, "bare")
    manifest = world.open().manifest
    path = files.shard_path(world.folder, SHARD)
    header = path.read_bytes()[:HEADER]
    from tidegate.vault.seal_chunks import CHUNK, Chunks

    chunks = Chunks(world.keys()(SHARD), manifest.shard_context(SHARD), header)
    size = manifest.shards[SHARD].size
    forged = bytearray(header)
    for number, start in enumerate(range(0, size + 1, CHUNK)):
        nonce = (chunks._base ^ number).to_bytes(12, "big")
        forged += chunks._aead.encrypt(nonce, bytes(min(CHUNK, size - start)), None)
    path.write_bytes(forged)
    with world.open().open_shard(SHARD, world.keys()(SHARD)) as opened:
        assert opened.read(0, 100) == bytes(100)


def test_a_signed_manifest_of_another_digest_does_not_open_these_shards(place: Path):
    """The owner's own mistake: a manifest signed over shards that were sealed under another."""
    opened = open_sealed(place / "a", OWNER.verifier)
    raw = msgspec.json.decode((place / "a" / files.MANIFEST).read_bytes())
    raw["sealing"] = "0" * 32
    other = Manifest.parse(msgspec.json.encode(raw))
    (place / "a" / files.MANIFEST).write_bytes(other.encode())
    stated = Seal(MODEL, other.digest, opened.seal.shards, opened.seal.root)
    (place / "a" / files.NOTE).write_text(sign(stated, OWNER))
    refused(world_of(place), KmsError)
    key = world_of(place, "newer").keys()(SHARD)
    with pytest.raises(TamperedError):
        open_sealed(place / "a", OWNER.verifier).open_shard(SHARD, key)


@pytest.mark.parametrize("name", [files.ROOTS, files.NOTE, files.MANIFEST])
def test_a_folder_without_one_of_its_parts_opens_nothing(place: Path, name: str):
    (place / "a" / name).unlink()
    with pytest.raises(VaultError):
        open_sealed(place / "a", OWNER.verifier)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_or_foreign_part_of_a_shard_is_an_error(place: Path, part):
    part(place / "a", SHARD).write_bytes(b"{}")
    refused(world_of(place), VaultError)
    part(place / "a", SHARD).unlink()
    refused(world_of(place), VaultError)


def test_no_error_quotes_a_key(place: Path):
    world = world_of(place)
    key = world.keys()(2)
    with pytest.raises(TamperedError) as caught:
        world.open().open_shard(SHARD, key)
    assert key.hex() not in str(caught.value.diagnostics())
    assert repr(key) not in repr(caught.value)


def test_shards_that_were_changed_are_found_without_a_key(place: Path):
    opened = open_sealed(place / "a", OWNER.verifier)
    path = files.shard_path(place / "a", SHARD)
    raw = bytearray(path.read_bytes())
    raw[HEADER + 300_000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(TamperedError):
        opened.check_shard(SHARD)
    path.write_bytes(raw[:-1])
    with pytest.raises(TamperedError):
        opened.check_shard(SHARD)
