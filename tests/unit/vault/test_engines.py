"""Engines run from sealed shards as they run from folders, and nothing of it reaches a disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sealed_world
from proof_world import SHAPE, write_folder
from sealed_world import OWNER
from tiny_pair import write_llama

from tidegate.models import load, tokenizer
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.open_memory import in_memory
from tidegate.vault.open_sealed import Sealed, open_sealed
from tidegate.vault.seal import seal

KINDS = ("transformers", "exact")


@pytest.fixture(scope="module", params=KINDS)
def sealed(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[Path, Sealed, LocalKms]:
    place: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "exact":
        write_folder(place / "model", SHAPE)
    else:
        write_llama(place / "model", 7)
    kms = LocalKms.create(place / "kms")
    seal(place / "model", place / "sealed", model="tiny", kms=kms, signer=OWNER, shard_bytes=9_000)
    return place / "model", open_sealed(place / "sealed", OWNER.verifier), kms


def test_logits_are_those_of_the_plain_folder(sealed: tuple[Path, Sealed, LocalKms]):
    plain, opened, kms = sealed
    assert len(opened.manifest.shards_of("model.safetensors")) > 1
    with in_memory(opened, opened.key_from(kms)) as folder:
        held = load.load_strong(str(folder), threads=1)
        words = tokenizer.load(folder)
    # The folder is gone; what the engine holds stays.
    expected = load.load_strong(str(plain), threads=1)
    assert held.fingerprint == expected.fingerprint
    assert words.fingerprint == tokenizer.load(plain).fingerprint
    batch = [(0, [5, 6, 7, 40])]
    assert np.array_equal(held.forward(batch), expected.forward(batch))


_WATCHED = """
import os, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from sealed_world import OWNER
from tidegate.models import load
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.open_memory import in_memory, keep_off_disk
from tidegate.vault.open_sealed import open_sealed

def written():
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["write_bytes"])

opened = open_sealed(Path({folder!r}), OWNER.verifier)
key_of = opened.key_from(LocalKms(Path({kms!r})))
keep_off_disk()
before = written()
with in_memory(opened, key_of) as folder:
    if {engine!r}:
        load.load_strong(str(folder), threads=1)
    for handle in os.listdir("/proc/self/fd"):
        place = os.path.realpath(f"/proc/self/fd/{{handle}}")
        if os.path.isfile(place) and not place.startswith("/memfd:"):
            assert not os.get_inheritable(int(handle)) or int(handle) < 3, place
    held = [p for p in Path({temporary!r}).rglob("*") if p.is_file() and not p.is_symlink()]
    assert held == [], held
print(written() - before)
probe = Path({probe!r})
before = written()
probe.write_bytes(bytes(1 << 20))
print(written() - before)
"""


def written_while_opening(
    folder: Path, kms: Path, tmp_path: Path, *, engine: bool
) -> tuple[int, int]:
    """Bytes for a disk while a model was opened, and for a mebibyte that was really written."""
    here = Path(sys.modules["sealed_world"].__file__).parent
    (tmp_path / "tmp").mkdir()
    program = _WATCHED.format(
        paths=[str(here)],
        folder=str(folder),
        kms=str(kms),
        engine=engine,
        temporary=str(tmp_path / "tmp"),
        probe=str(tmp_path / "probe"),
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    opening, probe = map(int, done.stdout.split())
    return opening, probe


def test_no_plaintext_reaches_a_disk_when_a_model_is_opened(tmp_path: Path):
    place = tmp_path / "place"
    place.mkdir()
    large = {"one": sealed_world.numbers("one", 6_000_000)}
    sealed_world.write_model(place / "model", large)
    world = sealed_world.sealed_world(place)
    opening, probe = written_while_opening(world.folder, place / "kms", tmp_path, engine=False)
    if probe == 0:
        pytest.skip("this file system counts no writes: plaintext on disk is not tested here")
    # Links and folders cost a few blocks; the model is six megabytes.
    assert opening < 200_000


def test_no_plaintext_reaches_a_disk_when_an_engine_loads(
    sealed: tuple[Path, Sealed, LocalKms], tmp_path: Path
):
    _, opened, _ = sealed
    kms = opened.folder.parent / "kms"
    opening, probe = written_while_opening(opened.folder, kms, tmp_path, engine=True)
    if probe == 0:
        pytest.skip("this file system counts no writes: plaintext on disk is not tested here")
    assert opening < 100_000


def test_an_opening_process_leaves_no_core(tmp_path: Path):
    program = (
        "import os, resource\n"
        "from tidegate.vault.open_memory import keep_off_disk\n"
        "keep_off_disk()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
        "print(open('/proc/self/coredump_filter').read().strip() != '')\n"
        "import ctypes\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == "(0, 0)"
    assert done.stdout.split("\n")[2] == "0"
