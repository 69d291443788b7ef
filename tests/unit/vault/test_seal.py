"""Sealing and opening give the model back, whole, by tensor, by range and in memory."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_world import MODEL, OWNER, SHARD_BYTES, TENSORS, SealedWorld, sealed_world, write_model

from tidegate.vault import memory_files as mounted
from tidegate.vault.errors import VaultError
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.open_memory import in_memory, keep_off_disk
from tidegate.vault.open_sealed import open_sealed
from tidegate.vault.rewrap import rewrap
from tidegate.vault.seal import seal


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SealedWorld:
    return sealed_world(tmp_path_factory.mktemp("sealed"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> SealedWorld:
    return sealed_world(tmp_path_factory.mktemp("bare"), with_digests=False)


def test_in_memory_every_file_is_what_it_was(world: SealedWorld, bare: SealedWorld):
    for one in (world, bare):
        with in_memory(one.open(), one.keys(), workers=2) as folder:
            names = sorted(p.relative_to(folder) for p in folder.rglob("*") if not p.is_dir())
            for name in names:
                assert (folder / name).read_bytes() == (one.model / name).read_bytes()
        assert [str(name) for name in names] == [
            "config.json",
            "empty.txt",
            "model.safetensors",
            "more/vocabulary.txt",
        ]


def test_hidden_files_are_left_out(world: SealedWorld):
    assert ".hidden" not in {file.name for file in world.sealing.manifest.files}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_is_opened_by_its_range_alone(world: SealedWorld, name: str):
    asked: list[int] = []

    def key_of(number: int) -> bytes:
        asked.append(number)
        return world.keys()(number)

    assert world.open().read_tensor(name, key_of) == TENSORS[name].tobytes()
    assert asked == [world.sealing.manifest.tensor(name).shard]


@settings(max_examples=60)
@given(data=st.data())
def test_any_range_is_that_of_the_plaintext(world: SealedWorld, bare: SealedWorld, data):
    one = data.draw(st.sampled_from([world, bare]))
    shard = data.draw(st.sampled_from(one.sealing.manifest.shards))
    near = [0, 1, 16_383, 16_384, 262_143, 262_144, 262_145, shard.size - 1, shard.size]
    places = st.one_of(st.integers(0, shard.size), st.sampled_from(near)).filter(
        lambda place: 0 <= place <= shard.size
    )
    start, end = sorted((data.draw(places), data.draw(places)))
    with one.open().open_shard(shard.number, one.keys()(shard.number)) as opened:
        assert opened.read(start, end) == one.plain(shard.number)[start:end]


def test_no_range_beyond_a_shard_is_read(world: SealedWorld):
    size = world.sealing.manifest.shards[0].size
    with world.open().open_shard(0, world.keys()(0)) as opened:
        for start, end in ((-1, 1), (2, 1), (0, size + 1)):
            with pytest.raises(VaultError):
                opened.read(start, end)


def test_streams_are_the_plaintext_in_order(world: SealedWorld, bare: SealedWorld):
    for one in (world, bare):
        for shard in one.sealing.manifest.shards:
            with one.open().open_shard(shard.number, one.keys()(shard.number)) as opened:
                pieces = b"".join(bytes(piece) for piece in opened.stream())
            assert pieces == one.plain(shard.number)


def test_sealing_costs_less_than_two_thousandths(tmp_path: Path):
    source = tmp_path / "model"
    write_model(source, {"one": TENSORS["embed"].repeat(12)})
    kms = LocalKms.create(tmp_path / "kms")
    seal(source, tmp_path / "out", model=MODEL, kms=kms, signer=OWNER)
    total = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert total <= 1.002 * sum(p.stat().st_size for p in source.rglob("*") if p.is_file())


def test_every_shard_has_a_key_and_a_salt_of_its_own(world: SealedWorld):
    opened = world.open()
    keys = {world.keys()(shard.number) for shard in opened.manifest.shards}
    headers = {path.read_bytes()[:24] for path in world.folder.glob("*.shard")}
    assert len(keys) == len(headers) == len(opened.manifest.shards)


def test_shards_are_checked_without_a_key(world: SealedWorld, bare: SealedWorld):
    for one in (world, bare):
        opened = one.open()
        for number in range(len(opened.manifest.shards)):
            opened.check_shard(number)
    assert world.open().has_digests()
    assert not bare.open().has_digests()


def test_two_sealings_of_one_model_have_nothing_in_common(tmp_path: Path):
    one, other = sealed_world(tmp_path, "a"), sealed_world(tmp_path, "b")
    assert one.sealing.manifest.digest != other.sealing.manifest.digest
    assert one.sealing.manifest.shards == other.sealing.manifest.shards
    for path in one.folder.glob("*.shard"):
        assert path.read_bytes() != (other.folder / path.name).read_bytes()


def test_rewrapped_keys_open_and_no_shard_is_touched(tmp_path: Path):
    world = sealed_world(tmp_path)
    before = {path: path.read_bytes() for path in world.folder.glob("*.shard")}
    keys = [world.keys()(shard.number) for shard in world.sealing.manifest.shards]
    world.kms.rotate()
    rewrap(world.open(), world.kms)
    world.kms.revoke(1)
    assert [world.keys()(shard.number) for shard in world.sealing.manifest.shards] == keys
    assert {path: path.read_bytes() for path in world.folder.glob("*.shard")} == before


def test_keys_move_to_another_service_and_an_interrupted_move_goes_on(tmp_path: Path):
    world = sealed_world(tmp_path)
    other = LocalKms.create(tmp_path / "other")
    opened = world.open()
    first = opened.key_from(world.kms)(0)
    moved = other.wrap(first, opened.manifest.key_context(0))
    from tidegate.vault.seal_files import write_key

    write_key(world.folder, 0, moved)  # as if the move had stopped after the first
    rewrap(opened, world.kms, other)
    (tmp_path / "kms").unlink()
    with in_memory(opened, opened.key_from(other)) as folder:
        assert (folder / "config.json").read_bytes() == (world.model / "config.json").read_bytes()


def test_a_sealed_folder_is_not_sealed_into_again(tmp_path: Path):
    world = sealed_world(tmp_path)
    with pytest.raises(VaultError, match="sealed already"):
        sealed_world(tmp_path)
    assert world.open()


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "letters.txt").write_text("mine")
    with pytest.raises(VaultError, match="not empty"):
        sealed_world(tmp_path)
    assert [path.name for path in (tmp_path / "a").iterdir() if path.name != ".lock"] == [
        "letters.txt"
    ]


@pytest.mark.parametrize("inside", ["model", "model/sealed", "."])
def test_sealed_and_plain_folders_do_not_lie_in_each_other(tmp_path: Path, inside: str):
    write_model(tmp_path / "model")
    kms = LocalKms.create(tmp_path / "kms")
    with pytest.raises(VaultError, match="in each other"):
        seal(tmp_path / "model", tmp_path / inside, model=MODEL, kms=kms, signer=OWNER)


def test_a_source_that_changes_while_it_is_sealed_is_not_signed(tmp_path: Path):
    source = write_model(tmp_path / "model")
    kms = LocalKms.create(tmp_path / "kms")

    def write(_manifest: object) -> None:
        with (source / "model.safetensors").open("r+b") as file:
            file.seek(-10, os.SEEK_END)
            file.write(b"other")

    with pytest.raises(VaultError, match="written to"):
        seal(source, tmp_path / "a", model=MODEL, kms=kms, signer=OWNER, inspect=write)
    with pytest.raises(VaultError, match="not sealed to the end"):
        open_sealed(tmp_path / "a", OWNER.verifier)


def test_a_source_that_shrinks_while_it_is_sealed_is_an_error(tmp_path: Path):
    source = write_model(tmp_path / "model")
    kms = LocalKms.create(tmp_path / "kms")

    def cut(_manifest: object) -> None:
        os.truncate(source / "model.safetensors", 1_000)

    with pytest.raises(VaultError, match="shorter"):
        seal(source, tmp_path / "a", model=MODEL, kms=kms, signer=OWNER, inspect=cut)


def test_two_processes_do_not_seal_into_one_folder(tmp_path: Path):
    source = write_model(tmp_path / "model")
    kms = LocalKms.create(tmp_path / "kms")

    def second(_manifest: object) -> None:
        seal(source, tmp_path / "a", model=MODEL, kms=kms, signer=OWNER)

    with pytest.raises(VaultError, match="another process"):
        seal(source, tmp_path / "a", model=MODEL, kms=kms, signer=OWNER, inspect=second)


def no_mounting() -> int:
    raise PermissionError(errno.EPERM, "not permitted")


@pytest.mark.parametrize("kind", ["as this host may", "memfd", "memfd, with swap"])
def test_memory_is_read_only_once_it_was_checked(
    world: SealedWorld, monkeypatch: pytest.MonkeyPatch, kind: str
):
    if kind.startswith("memfd"):
        monkeypatch.setattr(mounted, "_tmpfs", no_mounting)
        monkeypatch.setattr(mounted, "has_swap", lambda _: kind.endswith("swap"))
    with in_memory(world.open(), world.keys()) as folder:
        for file in world.sealing.manifest.files:
            assert (folder / file.name).read_bytes() == (world.model / file.name).read_bytes()
        with pytest.raises(OSError, match=r"not permitted|Read-only"):  # noqa: PT012
            handle = os.open(folder / "config.json", os.O_RDWR)
            try:
                os.write(handle, b"x")
            finally:
                os.close(handle)


def test_a_memfd_is_locked_in_memory_before_it_is_filled_where_there_is_swap(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(mounted, "_tmpfs", no_mounting)
    swaps = Path(f"/proc/self/fd/{os.memfd_create('swaps')}")
    swaps.write_text("Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
    pid = os.fork()
    if pid == 0:
        try:
            keep_off_disk(swaps)
            files = mounted.memory_files(swaps)
            handle = files.create(1 << 22)
            os.pwrite(handle, b"x" * (1 << 22), 0)
            smaps = Path("/proc/self/smaps").read_text()
            after = smaps.split("/memfd:tidegate", 1)[1]
            locked = re.search(r"Locked: +(\d+) kB", after)
            os._exit(7 if locked and int(locked[1]) == 4096 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_nothing_is_left_of_an_opened_model(world: SealedWorld):
    before = set(os.listdir("/proc/self/fd"))
    with in_memory(world.open(), world.keys()) as folder:
        links = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
        assert all(path.is_symlink() for path in links)
    assert not folder.exists()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_host_with_swap_that_may_not_lock_memory_opens_nothing():
    swaps = Path(f"/proc/self/fd/{os.memfd_create('swaps')}")
    swaps.write_text("Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
    pid = os.fork()
    if pid == 0:
        import resource

        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        if os.geteuid() == 0:
            os.setresuid(65_534, 65_534, 65_534)
        try:
            keep_off_disk(swaps)
        except VaultError as error:
            os._exit(7 if "Turn swap off" in error.message else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_the_wrapping_keys_file_is_its_owners_alone(world: SealedWorld):
    path = world.model.parent / "kms"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    world.kms.rotate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_tensors_lie_in_one_shard_each_and_shards_are_as_small_as_asked(world: SealedWorld):
    manifest = world.sealing.manifest
    sizes = {shard.number: shard.size for shard in manifest.shards}
    for tensor in manifest.tensors:
        assert tensor.end <= sizes[tensor.shard]
    largest = max(tensor.end - tensor.start for tensor in manifest.tensors)
    assert max(sizes.values()) <= max(SHARD_BYTES, largest + 10_000)
    assert len(manifest.shards_of("model.safetensors")) > 1
