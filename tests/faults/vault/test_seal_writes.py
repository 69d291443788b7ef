"""Sealing and rewrapping are broken at every write, twice, and then go on to a whole folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sealed_world import MODEL, OWNER, SHARD_BYTES, numbers, write_model

from tidegate.vault import seal_files as files
from tidegate.vault.errors import VaultError
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.manifest import Manifest
from tidegate.vault.open_memory import in_memory
from tidegate.vault.open_sealed import open_sealed
from tidegate.vault.rewrap import rewrap
from tidegate.vault.seal import seal
from tidegate.vault.seal_chunks import Encryptor
from tidegate.vault.seal_groups import digests

CALLS = ("write", "fsync", "replace", "rename", "unlink")
SMALL = {"one": numbers("one", 300_000), "two": numbers("two", 200_000)}


class Killed(BaseException):
    """The process is gone. Nothing handles it, as nothing handles a kill."""


class Breaker:
    """Counts what changes the disk, and stops at one: before it, or just after."""

    def __init__(self, at: int = -1, *, persisted: bool = False) -> None:
        self.count = 0
        self._at, self._persisted = at, persisted

    def wrap(self, call: Callable[..., object]) -> Callable[..., object]:
        def broken(*args: object, **kwargs: object) -> object:
            number, self.count = self.count, self.count + 1
            if number == self._at and not self._persisted:
                raise Killed
            if self._at >= 0 and number > self._at:
                raise Killed  # a dead process writes nothing more
            result = call(*args, **kwargs)
            if number == self._at:
                raise Killed
            return result

        return broken


@contextmanager
def breaking(breaker: Breaker) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, breaker.wrap(getattr(os, name)))
        yield


def run(place: Path) -> None:
    seal(
        place / "model",
        place / "sealed",
        model=MODEL,
        kms=LocalKms(place / "kms"),
        signer=OWNER,
        shard_bytes=SHARD_BYTES // 2,
        workers=1,
    )


def check(place: Path) -> None:
    """The folder is whole, opens, and holds nothing of the model in the clear."""
    opened = open_sealed(place / "sealed", OWNER.verifier)
    with in_memory(opened, opened.key_from(LocalKms(place / "kms"))) as folder:
        no_plaintext(place / "sealed")
        for file in opened.manifest.files:
            assert (folder / file.name).read_bytes() == (place / "model" / file.name).read_bytes()


def no_plaintext(folder: Path) -> None:
    """Nothing that lies in `folder` holds a piece of the tensors."""
    pieces = [tensor[at : at + 16].tobytes() for tensor in SMALL.values() for at in (0, 150_000)]
    for path in folder.rglob("*"):
        raw = path.read_bytes()
        assert not any(piece in raw for piece in pieces)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests kill processes, not machines: what was written is there without being synced."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    place: Path = tmp_path_factory.mktemp("begun")
    write_model(place / "model", SMALL)
    LocalKms.create(place / "kms")
    return place


def writes(begun: Path, folder: Path) -> int:
    counter = Breaker()
    copy = Path(shutil.copytree(begun, folder))
    with breaking(counter):
        run(copy)
    return counter.count


@pytest.mark.parametrize("persisted", [False, True], ids=["not persisted", "persisted"])
def test_sealing_killed_at_every_write_goes_on_to_a_whole_folder(
    begun: Path, tmp_path: Path, persisted: bool
):
    total = writes(begun, tmp_path / "counted")
    assert total > 30
    for at in range(total):
        # Stamps hold inodes and times, so the source is linked and not copied.
        place = tmp_path / str(at)
        place.mkdir()
        (place / "model").symlink_to(begun / "model")
        shutil.copy(begun / "kms", place / "kms")
        with pytest.raises(Killed), breaking(Breaker(at, persisted=persisted)):
            run(place)
        no_plaintext(place / "sealed")
        whole = (place / "sealed" / "seal.txt").exists()
        if not whole:
            with pytest.raises(VaultError):
                open_sealed(place / "sealed", OWNER.verifier)
            run(place)
        check(place)
        shutil.rmtree(place)


def test_what_was_finished_before_the_kill_is_not_sealed_again(begun: Path, tmp_path: Path):
    total = writes(begun, tmp_path / "counted")
    (tmp_path / "model").symlink_to(begun / "model")
    shutil.copy(begun / "kms", tmp_path / "kms")
    with pytest.raises(Killed), breaking(Breaker(total - 16)):
        run(tmp_path)
    done = [p.name[:5] for p in (tmp_path / "sealed").glob("*.done")]
    shards = {n: (tmp_path / "sealed" / f"{n}.shard").read_bytes() for n in done}
    assert len(done) > 2
    run(tmp_path)
    for number, raw in shards.items():
        assert (tmp_path / "sealed" / f"{number}.shard").read_bytes() == raw


def test_a_shard_cut_short_is_sealed_under_a_fresh_key(begun: Path, tmp_path: Path):
    """Under the old one, other weights at the same place would repeat a nonce."""
    (tmp_path / "model").symlink_to(begun / "model")
    shutil.copy(begun / "kms", tmp_path / "kms")
    for at in range(10, 40):
        with pytest.raises(Killed), breaking(Breaker(at)):
            run(tmp_path)
        left = [*(tmp_path / "sealed").glob("*.part")]
        if left and left[0].stat().st_size:
            break
        shutil.rmtree(tmp_path / "sealed")
    salt = left[0].read_bytes()[:56]
    run(tmp_path)
    final = left[0].with_name(left[0].name.removesuffix(".part"))
    assert final.read_bytes()[:56] != salt
    check(tmp_path)


def test_a_source_that_changed_since_the_kill_is_not_mixed_in(begun: Path, tmp_path: Path):
    place = Path(shutil.copytree(begun, tmp_path / "copy"))
    total = writes(begun, tmp_path / "counted")
    with pytest.raises(Killed), breaking(Breaker(total // 2)):
        run(place)
    path = place / "model" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(VaultError, match="begun with"):
        run(place)


def test_whoever_writes_to_a_half_made_folder_gets_nothing_of_his_signed(
    begun: Path, tmp_path: Path
):
    """Not even with leave to wrap keys: the shard is sealed again, from the model."""
    total = writes(begun, tmp_path / "counted")
    (tmp_path / "model").symlink_to(begun / "model")
    shutil.copy(begun / "kms", tmp_path / "kms")
    with pytest.raises(Killed), breaking(Breaker(total - 14)):
        run(tmp_path)
    folder = tmp_path / "sealed"
    manifest = Manifest.parse((folder / files.MANIFEST).read_bytes())
    number = min(int(path.name[:5]) for path in folder.glob("*.done"))
    key, size = bytes(32), manifest.shards[number].size
    forger = Encryptor(key, manifest.shard_context(number))
    forged = forger.update(bytes(size)) + forger.finalize()
    files.shard_path(folder, number).write_bytes(forged)
    found = [files.sha256(forged[:56]), *digests(memoryview(forged)[56:])]
    files.hashes_path(folder, number).write_bytes(b"".join(found))
    wrapped = LocalKms(tmp_path / "kms").wrap(key, manifest.key_context(number))
    files.write_key(folder, number, wrapped)
    run(tmp_path)
    check(tmp_path)
    assert not [*folder.glob("*.done")]


@pytest.mark.parametrize("persisted", [False, True], ids=["not persisted", "persisted"])
def test_rewrapping_killed_at_every_write_leaves_every_key_openable(
    begun: Path, tmp_path: Path, persisted: bool
):
    place = tmp_path / "place"
    place.mkdir()
    (place / "model").symlink_to(begun / "model")
    shutil.copy(begun / "kms", place / "kms")
    run(place)
    kms = LocalKms(place / "kms")
    for at in range(1_000):
        kms.rotate()
        try:
            with breaking(Breaker(at, persisted=persisted)):
                rewrap(open_sealed(place / "sealed", OWNER.verifier), kms)
        except Killed:
            check(place)
        else:
            break
    assert at > 5
    check(place)


@pytest.mark.parametrize("persisted", [False, True], ids=["not persisted", "persisted"])
def test_a_key_service_killed_at_every_write_loses_no_key(tmp_path: Path, persisted: bool):
    key, context = bytes(range(32)), b"context"
    for action in ("rotate", "revoke"):
        for at in range(20):
            path = tmp_path / f"{action}-{at}"
            kms = LocalKms.create(path)
            kms.rotate()
            wrapped = kms.wrap(key, context)
            try:
                with breaking(Breaker(at, persisted=persisted)):
                    _ = kms.rotate() if action == "rotate" else kms.revoke(1)
            except Killed:
                assert LocalKms(path).unwrap(wrapped, context) == key
            else:
                break
        assert at > 1


_SEAL = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
import test_seal_writes as t
t.run(Path({place!r}))
"""


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.08])
def test_a_sealing_process_that_is_killed_goes_on(begun: Path, tmp_path: Path, delay: float):
    (tmp_path / "model").symlink_to(begun / "model")
    shutil.copy(begun / "kms", tmp_path / "kms")
    paths = [str(Path(__file__).parent), str(Path(sys.modules["sealed_world"].__file__).parent)]
    program = _SEAL.format(paths=paths, place=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        while not (tmp_path / "sealed").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    if not (tmp_path / "sealed" / "seal.txt").exists():
        run(tmp_path)
    check(tmp_path)
