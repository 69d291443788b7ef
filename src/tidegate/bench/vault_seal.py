"""Sealing and opening a model of 1 GiB, beside Tink's streaming AEAD, age and SHA-256.

All read the same file, and put what they make into the same file system or into memory files, in
turns. Wall time, since a model is sealed by a machine and not by a core; ours takes a process a
processor, the peers are what their authors made them. The time of all processors is told as well.
Before each run memory is written to and freed: a virtual machine gives back to its host what is
free, and faulting it in again, several times what encrypting costs, would fall to whom it may.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import resource
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import safetensors.numpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.bench import peak_memory
from tidegate.bench.figures import Figure, at_least, at_most, report
from tidegate.bench.vault_seal_peers import Age, tink_primitive
from tidegate.errors import TidegateError
from tidegate.models.cache import Progress
from tidegate.transparency.note import Signer
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.open_memory import in_memory
from tidegate.vault.open_sealed import Sealed, open_sealed
from tidegate.vault.seal import seal
from tidegate.vault.seal_chunks import Encryptor

SIZE: Final = 1 << 30
SMALL: Final = 1 << 27
TENSOR: Final = 1 << 22
ROUNDS: Final = 5
READS: Final = 400
_PIECE: Final = 1 << 20
_STEP: Final = 1 << 19
_TOUCHED: Final = 2 * SIZE
_SHM = Path("/dev/shm")  # noqa: S108  a file system in memory, so that no disk is measured


@dataclass(frozen=True, slots=True)
class _Took:
    """Seconds by the clock, and of all processors."""

    wall: float
    cpu: float


Measured = Mapping[str, list[_Took]]


def measure(progress: Progress) -> dict[str, Figure]:
    """All figures of the part. Raises TidegateError where age or Tink is not installed."""
    with _workplace() as place:
        bench = _Bench(place)
        took = bench.rounds(progress)
        sealed = bench.sealed("signed")
        figures = _speeds(took)
        size = sum(path.stat().st_size for path in sealed.folder.iterdir())
        figures["overhead_share"] = at_most(
            size / SIZE - 1,
            0.002,
            unit="share",
            n=1,
            how="bytes of the sealed folder, digests, keys and manifest included, over the model's",
        )
        figures |= _reads(sealed, bench.kms)
        figures |= _memory(place, progress)
    return figures


class _Bench:
    """The model, and what everybody needs to encrypt it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.model = _model(place / "model", SIZE)
        self.file = self.model / "model.safetensors"
        self.kms = LocalKms.create(place / "kms")
        self.signer = Signer("owner.example/bench", Ed25519PrivateKey.generate())
        self.tink = tink_primitive()
        self.age = Age(place)

    def rounds(self, progress: Progress) -> Measured:
        """Everybody in turns, after a round that only warms memory up."""
        runs: Mapping[str, Callable[[], object]] = {
            "seal.bare": lambda: self._seal("bare", with_digests=False),
            "seal.signed": lambda: self._seal("signed", with_digests=True),
            "seal.tink": self._tink_seal,
            "seal.age": lambda: self.age.encrypt(self.file),
            "open.bare": lambda: self._open("bare"),
            "open.signed": lambda: self._open("signed"),
            "open.tink": self._tink_open,
            "open.age": self.age.decrypt,
            "sha256": self._hash,
            "gcm": self._encrypt_only,
            "copy": self._copy_only,
        }
        took: dict[str, list[_Took]] = {name: [] for name in runs}
        total, done = (ROUNDS + 1) * len(runs), 0
        for number in range(ROUNDS + 1):
            for name, run in runs.items():
                progress("sealing and opening 1 GiB", done, total)
                _touch_memory()
                spent = _timed(run)
                done += 1
                if number:
                    took[name].append(spent)
        progress("sealing and opening 1 GiB", total, total)
        return took

    def sealed(self, name: str) -> Sealed:
        """What the last round sealed."""
        return open_sealed(self.place / name, self.signer.verifier)

    def _seal(self, name: str, *, with_digests: bool) -> None:
        shutil.rmtree(self.place / name, ignore_errors=True)
        seal(
            self.model,
            self.place / name,
            model="bench",
            kms=self.kms,
            signer=self.signer,
            with_digests=with_digests,
        )

    def _open(self, name: str) -> None:
        sealed = self.sealed(name)
        with in_memory(sealed, sealed.key_from(self.kms)):
            pass

    def _tink_seal(self) -> None:
        with (
            self.file.open("rb", buffering=0) as source,
            self.tink.new_encrypting_stream((self.place / "tink").open("wb"), b"bench") as out,
        ):
            while piece := source.read(_PIECE):
                out.write(piece)

    def _tink_open(self) -> None:
        handle = os.memfd_create("bench")
        try:
            with self.tink.new_decrypting_stream((self.place / "tink").open("rb"), b"bench") as out:
                while piece := out.read(_PIECE):
                    os.write(handle, piece)
        finally:
            os.close(handle)

    def _hash(self) -> None:
        with self.file.open("rb", buffering=0) as source:
            hashlib.file_digest(source, "sha256")

    def _encrypt_only(self) -> None:
        encryptor = Encryptor(secrets.token_bytes(32), b"bench")
        plain, sealed = bytearray(_STEP), bytearray(2 * _STEP)
        for _ in range(0, SIZE, _STEP):
            encryptor.update_into(plain, sealed)

    def _copy_only(self) -> None:
        room = memoryview(bytearray(_STEP))
        with (
            self.file.open("rb", buffering=0) as source,
            (self.place / "copy").open("wb", buffering=0) as out,
        ):
            while size := source.readinto(room):
                out.write(room[:size])
        (self.place / "copy").unlink()


def _speeds(took: Measured) -> dict[str, Figure]:
    threads = len(os.sched_getaffinity(0))
    peers = {"tink": "Tink's AES256_GCM_HKDF_1MB in pieces of 1 MiB", "age": "age, file to file"}
    figures: dict[str, Figure] = {}
    for work in ("seal", "open"):
        for peer, called in peers.items():
            figures[f"{work}_over_{peer}"] = at_least(
                _ratio(took[f"{work}.{peer}"], took[f"{work}.bare"]),
                3,
                unit="ratio",
                n=ROUNDS,
                how=f"speed over that of {called}; sealed without digests, which peers do not have "
                f"either; {threads} processes, the peer as it is; wall time, median of rounds",
            )
            figures[f"signed.{work}_over_{peer}"] = report(
                _ratio(took[f"{work}.{peer}"], took[f"{work}.signed"]),
                unit="ratio",
                n=ROUNDS,
                how="the same with every byte under the owner's signature, as is the default",
            )
            figures[f"{work}_over_{peer}.cpu"] = report(
                _ratio(took[f"{work}.{peer}"], took[f"{work}.bare"], cpu=True),
                unit="ratio",
                n=ROUNDS,
                how="the same by the time of all processors: what one core would do",
            )
    figures["seal_over_tink.most"] = report(
        statistics.median(
            tink.wall * threads / (gcm.cpu + copy.cpu)
            for tink, gcm, copy in zip(took["seal.tink"], took["gcm"], took["copy"], strict=True)
        ),
        unit="ratio",
        n=ROUNDS,
        how=f"what {threads} processors could reach if nothing had to be done but to encrypt "
        "with AES-256-GCM, in memory, and to read and write the file once",
    )
    figures["gcm_ns_per_byte"] = report(
        statistics.median(one.cpu for one in took["gcm"]) / SIZE * 1e9,
        unit="ns",
        n=ROUNDS,
        how="AES-256-GCM as the cryptography package does it, one processor, in its cache",
    )
    figures["copy_ns_per_byte"] = report(
        statistics.median(one.cpu for one in took["copy"]) / SIZE * 1e9,
        unit="ns",
        n=ROUNDS,
        how="reading the model and writing it to a file beside the others', one processor",
    )
    for mode in ("bare", "signed"):
        prefix = "signed." if mode == "signed" else ""
        figures[f"{prefix}open_over_sha256"] = at_least(
            _ratio(took["sha256"], took[f"open.{mode}"]),
            0.7,
            unit="ratio",
            n=ROUNDS,
            how=f"speed of opening into memory over that of hashlib's SHA-256 ({mode}); the hash "
            "takes one thread and keeps nothing",
        )
        for work in ("seal", "open"):
            figures[f"{prefix}{work}_mb_per_s"] = report(
                SIZE / 1e6 / statistics.median(one.wall for one in took[f"{work}.{mode}"]),
                unit="MB/s",
                n=ROUNDS,
                how=f"1 GiB, {threads} processes, {mode}; file system in memory",
            )
    return figures


def _reads(sealed: Sealed, kms: LocalKms) -> dict[str, Figure]:
    key_of = sealed.key_from(kms)
    number = max(sealed.manifest.shards, key=lambda shard: shard.size).number
    size = sealed.manifest.shard(number).size
    spent = []
    with sealed.open_shard(number, key_of(number)) as shard:
        for _ in range(READS):
            start = secrets.randbelow(size - 4096)
            begun = time.perf_counter()
            shard.read(start, start + 4096)
            spent.append(1e3 * (time.perf_counter() - begun))
    return {
        "random_read_ms": at_most(
            statistics.median(spent),
            0.5,
            unit="ms",
            n=READS,
            how="4 KiB at a random place of an opened shard, its group's digest checked; median",
        )
    }


def _memory(place: Path, progress: Progress) -> dict[str, Figure]:
    """Peaks of the command's own process; a memory file is not part of it."""
    peaks: dict[tuple[str, int], int] = {}
    kms = f"local:{place / 'kms'}"
    for size in (SMALL, SIZE):
        progress("memory", size, SIZE)
        model = place / "model" if size == SIZE else _model(place / "small", size)
        out = place / f"sealed-{size}"
        key = place / "signing"
        commands = {
            "seal": [
                "seal",
                str(model),
                str(out),
                "--model-id",
                "bench",
                "--signing-key",
                str(key),
            ],
            "open": ["open", str(out), "--owner", f"{key}.pub"],
        }
        for name, words in commands.items():
            ran = peak_memory.run("vault", *words, "--kms", kms)
            if ran.status or ran.peak is None:
                raise TidegateError(f"tidegate vault {name} ended with {ran.status}: {ran.errors}")
            peaks[name, size] = ran.peak
        shutil.rmtree(out)
    return {
        f"{name}_memory_growth_mib": at_most(
            (peaks[name, SIZE] - peaks[name, SMALL]) / 2**20,
            16,
            unit="MiB",
            n=2,
            how="peak memory of the command for 1 GiB less that for 128 MiB, the model itself, "
            "which opening holds in memory files, and its workers not counted; "
            f"{peaks[name, SIZE] >> 20} MiB",
        )
        for name in ("seal", "open")
    }


def _ratio(peer: list[_Took], ours: list[_Took], *, cpu: bool = False) -> float:
    """The median over rounds of how many times as fast as the peer we are."""
    pairs = zip(peer, ours, strict=True)
    return statistics.median(p.cpu / o.cpu if cpu else p.wall / o.wall for p, o in pairs)


def _timed(run: Callable[[], object]) -> _Took:
    cpu, wall = _cpu(), time.perf_counter()
    run()
    return _Took(time.perf_counter() - wall, _cpu() - cpu)


def _touch_memory() -> None:
    """Have the host lend memory now, not while somebody is timed."""
    block = bytes(_PIECE)
    with mmap.mmap(-1, _TOUCHED, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room:
        room.madvise(mmap.MADV_HUGEPAGE)  # whole blocks, which serve small and huge pages alike
        for start in range(0, _TOUCHED, _PIECE):
            room[start : start + _PIECE] = block


def _cpu() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _model(folder: Path, size: int) -> Path:
    folder.mkdir()
    block = np.frombuffer(secrets.token_bytes(TENSOR), np.uint8)
    tensors = {f"layer.{number}": block.copy() for number in range(size // TENSOR)}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


@contextmanager
def _workplace() -> Iterator[Path]:
    """In memory where there is room for it; else where temporary files go."""
    roomy = _SHM.is_dir() and shutil.disk_usage(_SHM).free > 8 * SIZE
    with tempfile.TemporaryDirectory(dir=_SHM if roomy else None, prefix="tidegate-") as place:
        yield Path(place)
