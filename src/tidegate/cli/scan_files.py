"""Files in and out of the scanner: streams, captures, calibrations, fingerprints."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tidegate.cli.ground import secret_bytes
from tidegate.errors import ConfigError, ModelError
from tidegate.models.cache import Progress
from tidegate.scan import calibration as lines
from tidegate.scan import pcap, report
from tidegate.scan.calibration import Calibration
from tidegate.scan.fingerprint import KEY_BYTES, Fingerprints, Matcher, Tensor
from tidegate.scan.fingerprint_make import make, tensors_of
from tidegate.scan.packets import Flow
from tidegate.scan.sighting import Sighting
from tidegate.scan.stream import BLOCK, Scanner, Settings
from tidegate.scan.streams import Piece, Streams
from tidegate.scan.windows import measure

_MOST_TOLD = 4096
"""Sightings kept unmerged; a leak of gigabytes is one line in the end."""
_NAMED = 6


class _Kept:
    """A scanner and what it said, merged whenever it grows long."""

    def __init__(self, settings: Settings) -> None:
        self._scanner = Scanner(settings)
        self._told: list[Sighting] = []
        self.size = 0

    def feed(self, data: bytes) -> None:
        self.size += len(data)
        self._told += self._scanner.feed(data)
        if len(self._told) > _MOST_TOLD:
            self._told = list(report.merged(self._told))

    def close(self, name: str, damage: str = "") -> report.Stream:
        told = report.merged((*self._told, *self._scanner.close()))
        return report.Stream(name, self.size, told, damage)


def scan_stream(
    head: bytes, file: BinaryIO, name: str, settings: Settings
) -> tuple[report.Stream, ...]:
    """The whole file as one stream; `head` was read from it already."""
    kept = _Kept(settings)
    data = head
    while data:
        kept.feed(data)
        data = file.read(BLOCK)
    return (kept.close(name),)


def scan_capture(
    head: bytes, file: BinaryIO, name: str, settings: Settings
) -> tuple[report.Stream, ...]:
    """Each direction of each conversation as a stream. A damaged capture is scanned up to there."""
    streams = Streams()
    kept: dict[Flow, _Kept] = {}
    done: list[report.Stream] = []
    damage = ""

    def take(pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            kept.setdefault(piece.flow, _Kept(settings)).feed(piece.data)

    held = [head]
    try:
        for frame in pcap.frames(lambda size: held.pop() if held else file.read(size)):
            take(streams.feed(frame.packet()))
            while streams.forgotten:
                flow = streams.forgotten.pop()
                if flow in kept:
                    done.append(kept.pop(flow).close(str(flow)))
    except pcap.CaptureError as error:
        damage = error.message
    take(streams.close())
    done += [one.close(str(flow)) for flow, one in kept.items()]
    if damage:
        done.append(report.Stream(name, 0, (), damage))
    return tuple(done)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
        else:
            yield path


def calibrate_on(paths: Sequence[Path], false_positives: float, progress: Progress) -> Calibration:
    """Thresholds from harmless files. Raises ConfigError where they are too few."""
    files = list(_files(paths))
    highest: list[tuple[float, str]] = []
    scores: dict[int, list[np.ndarray]] = {lines.WINDOW: [], lines.SHORT: []}
    for done, path in enumerate(files):
        progress("measuring harmless files", done, len(files))
        with path.open("rb") as file:
            while data := file.read(BLOCK):
                for window, score in scores.items():
                    score.append(lines.WEIGHING.score(measure(data, window)))
                    highest += [(float(score[-1].max(initial=0)), str(path))]
        highest = sorted(highest, reverse=True)[:_NAMED]
    progress("measuring harmless files", len(files), len(files))
    long_W, short_W = (
        np.concatenate(score) if score else np.empty(0, np.float32) for score in scores.values()
    )
    made = lines.calibrated(long_W, short_W, false_positives)
    if made.threshold > lines.HIGHEST or made.short_threshold > lines.HIGHEST_SHORT:
        raise ConfigError(
            f"a line at {made.threshold} bits a byte would miss weights in base64 "
            f"({lines.HIGHEST}); leave out what is compressed, encrypted or binary, which no line "
            f"can tell from weights: {', '.join(dict.fromkeys(name for _, name in highest))}"
        )
    return made


def write_calibration(path: Path, made: Calibration) -> None:
    """As JSON, for `--calibration`."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")


def read_calibration(path: Path) -> Calibration:
    """Raises ConfigError, naming the file, where it is no calibration."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is no calibration: {error}") from error


def make_fingerprints(
    model: Path, out: Path, key: bytes, every: int, progress: Progress
) -> Fingerprints:
    """Fingerprints of all shards of a folder, written to `out`. Raises ModelError."""
    shards = sorted(model.glob("*.safetensors"))
    if not shards:
        raise ModelError(f"{model} holds no .safetensors shard", file=str(model))

    def tensors() -> Iterator[tuple[Tensor, bytes]]:
        for shard in shards:
            with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=1) as mapped:
                size = int.from_bytes(mapped[:8], "little")
                if size > len(mapped) - 8:
                    raise ModelError(f"{shard} is no safetensors file", file=str(shard))
                found = tensors_of(shard.name, mapped[8 : 8 + size], 8 + size)
                for done, (tensor, length) in enumerate(found):
                    progress(f"reading {shard.name}", done + 1, len(found))
                    yield tensor, mapped[tensor.begin : tensor.begin + length]

    made = make(model.name, tensors(), key[:KEY_BYTES], every=every)
    table = msgspec.json.encode([tuple(tensor) for tensor in made.tensors]).decode()
    says = {"model": made.model, "every": str(every), "tensors": table}
    save_file({"tag_N": made.tag_N, "place_N": made.place_N}, out, metadata=says)
    return made


def read_matcher(paths: Sequence[Path], key: Path) -> Matcher:
    """Fingerprint files opened with their key. Raises ConfigError, naming the file."""
    if not key.is_file():
        raise ConfigError(
            f"{key} is no key file; give the one that the fingerprints were made with"
        )
    secret = secret_bytes(key)[:KEY_BYTES]
    known: list[Fingerprints] = []
    for path in paths:
        try:
            with safe_open(path, "np") as file:
                says = file.metadata() or {}
                tensors = msgspec.json.decode(says["tensors"], type=tuple[Tensor, ...])
                tag_N, place_N = file.get_tensor("tag_N"), file.get_tensor("place_N")
                every = int(says["every"])
        except (SafetensorError, KeyError, ValueError, msgspec.DecodeError) as error:
            raise ConfigError(f"{path} is no file of fingerprints: {error}") from error
        known.append(Fingerprints(says["model"], every, secret, tensors, tag_N, place_N))
    return Matcher(*known)
