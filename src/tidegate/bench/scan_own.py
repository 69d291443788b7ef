"""Whether leaked pieces of the owner's own model are named, and nobody else's are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tidegate.bench.figures import Figure, at_least, at_most, report
from tidegate.bench.scan_data import Model
from tidegate.bench.scan_formats import FORMATS
from tidegate.bench.scan_texts import Text
from tidegate.models.cache import Progress
from tidegate.scan.fingerprint import KEY_BYTES, Fingerprints, Matcher, Tensor
from tidegate.scan.fingerprint_make import make, tensors_of

Floats = np.ndarray[Any, np.dtype[np.float32]]

BLOCK: Final = 1 << 16
RAW_BLOCKS: Final = 400
WRITTEN_BLOCKS: Final = 40
REQUANTISED: Final = ("int8", "q8_0", "int4", "q4_0", "q4_1", "nf4")
CONVERTED: Final = ("fp32", "fp16", "fp8")
_ROWS: Final = 1024
_GOLDEN: Final = 0.6180339887498949
_NEAR: Final = 8
"""Bytes by which a place may be off: a block that begins inside a number."""


class Own:
    """A safetensors file as its owner holds it."""

    def __init__(self, path: Path) -> None:
        self.raw_B = np.memmap(path, np.uint8, "r")
        size = int.from_bytes(self.raw_B[:8].tobytes(), "little")
        header = self.raw_B[8 : 8 + size].tobytes()
        self.tensors = tensors_of(path.name, header, 8 + size)
        self.begin = 8 + size

    def fingerprints(self, progress: Progress) -> Fingerprints:
        """Fingerprints under a key that is no secret."""
        key = hashlib.blake2b(b"bench", digest_size=KEY_BYTES).digest()

        def told() -> Iterator[tuple[Tensor, memoryview]]:
            for done, (tensor, size) in enumerate(self.tensors):
                progress("fingerprinting", done, len(self.tensors))
                yield tensor, self.raw_B[tensor.begin : tensor.begin + size].data
            progress("fingerprinting", len(self.tensors), len(self.tensors))

        return make("own", told(), key)

    def floats(self, tensor: Tensor, row: int) -> Floats:
        """1,024 rows of 512 weights (bfloat16 on disk), from a row on."""
        first = tensor.begin + 1024 * row
        raw = self.raw_B[first : first + 1024 * _ROWS].tobytes()
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(-1, 512)


def measure(
    path: Path, others: Sequence[Model], harmless: Sequence[Text], progress: Progress
) -> dict[str, Figure]:
    """Recall of raw and of rewritten blocks of 64 KiB, and matches where there must be none."""
    own = Own(path)
    known = own.fingerprints(progress)
    figures = _raw(own, known, progress)
    large = [(t, size // 1024) for t, size in own.tensors if size >= 1024 * (_ROWS + 1)]
    found = {
        form: _written(own, known, large, FORMATS[form], progress)
        for form in (*REQUANTISED, *CONVERTED)
    }
    told = sum(found[form] for form in REQUANTISED)
    count = WRITTEN_BLOCKS * len(REQUANTISED)
    figures["own_weight_requantised_recall"] = at_least(
        told / count,
        0.95,
        unit="share",
        n=count,
        how=f"blocks of 64 KiB, from any byte on, of {', '.join(REQUANTISED)}: tensor named right",
    )
    for form, right in found.items():
        figures[f"own_weight_recall.{form}"] = report(
            right / WRITTEN_BLOCKS, unit="share", n=WRITTEN_BLOCKS, how=f"{form} alone"
        )
    figures |= _evasions(own, known, large)
    return figures | _false(known, others, harmless, progress)


def _raw(own: Own, known: Fingerprints, progress: Progress) -> dict[str, Figure]:
    matcher, right = Matcher(known), 0
    room = len(own.raw_B) - own.begin - BLOCK
    for i in range(RAW_BLOCKS):
        at = own.begin + int(room * (i * _GOLDEN % 1))
        match = matcher.match(own.raw_B[at : at + BLOCK].tobytes())
        # A block may begin in a small tensor without places and be known by the next one's.
        right += match is not None and -_NEAR <= match.place.offset - at < BLOCK // 2
        progress("raw blocks", i + 1, RAW_BLOCKS)
    return {
        "own_weight_raw_recall": at_least(
            right / RAW_BLOCKS,
            1,
            unit="share",
            n=RAW_BLOCKS,
            how=f"blocks of 64 KiB from any byte of a file of {len(own.raw_B) / 1e6:.0f} MB: named "
            f"with shard and offset; {len(known.tag_N)} fingerprints",
        )
    }


def _blocks(
    own: Own, large: Sequence[tuple[Tensor, int]], count: int
) -> Iterator[tuple[Tensor, Floats, float]]:
    for i in range(count):
        tensor, rows = large[int(len(large) * (i * _GOLDEN % 1))]
        spread = i * _GOLDEN * _GOLDEN % 1
        yield tensor, own.floats(tensor, int((rows - _ROWS) * spread)), spread


def _written(
    own: Own,
    known: Fingerprints,
    large: Sequence[tuple[Tensor, int]],
    write: Callable[[Floats], bytes],
    progress: Progress,
) -> int:
    right = 0
    for i, (tensor, rows_RC, spread) in enumerate(_blocks(own, large, WRITTEN_BLOCKS)):
        data = write(rows_RC)
        at = int((len(data) - BLOCK) * spread)
        # A matcher of its own: the layout of the block before must not help.
        match = Matcher(known).match(data[at : at + BLOCK])
        right += match is not None and match.place.tensor == tensor.name
        progress("rewritten blocks", i + 1, WRITTEN_BLOCKS)
    return right


def _scaled(rows_RC: Floats) -> bytes:
    return FORMATS["q8_0"](np.asarray(rows_RC * np.float32(1.7)))


def _noisy(rows_RC: Floats) -> bytes:
    wave = np.sin(np.arange(rows_RC.size, dtype=np.float32) * 1.7).reshape(rows_RC.shape)
    return FORMATS["fp16"](np.asarray(rows_RC + 0.05 * rows_RC.std() * wave, np.float32))


EVASIONS: Final[Mapping[str, Callable[[Floats], bytes]]] = {
    "scaled": _scaled,
    "noise_of_5_percent": _noisy,
    "columns_permuted": lambda rows_RC: FORMATS["fp16"](rows_RC[:, ::-1]),
    "transposed": lambda rows_RC: FORMATS["fp16"](np.ascontiguousarray(rows_RC.T)),
    "signs_flipped_by_column": lambda rows_RC: FORMATS["fp16"](
        rows_RC * np.where(np.arange(512) * _GOLDEN % 1 < 0.5, -1, 1).astype(np.float32)
    ),
}


def _evasions(
    own: Own, known: Fingerprints, large: Sequence[tuple[Tensor, int]]
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name, change in EVASIONS.items():
        blocks = list(_blocks(own, large, WRITTEN_BLOCKS // 2))
        hits = sum(Matcher(known).match(change(rows)[:BLOCK]) is not None for _, rows, _ in blocks)
        figures[f"own_evasion.{name}"] = report(
            hits / len(blocks),
            unit="share",
            n=len(blocks),
            how="still named as our own; 0: the evasion works against fingerprints",
        )
    return figures


def _false(
    known: Fingerprints, others: Sequence[Model], harmless: Sequence[Text], progress: Progress
) -> dict[str, Figure]:
    matcher, told, count = Matcher(known), 0, 0
    pieces = [
        write(model.rows_RC)[at : at + BLOCK]
        for model in others
        for form, write in FORMATS.items()
        if form in ("fp32", "bf16", "int8", "q4_0", "nf4")
        for at in range(0, 2 * BLOCK, BLOCK)
    ]
    pieces += [text.data[:BLOCK] for text in harmless if len(text.data) >= BLOCK][:40]
    for piece in pieces:
        told += matcher.match(piece) is not None
        count += 1
        progress("others' blocks", count, len(pieces))
    return {
        "own_weight_false_matches": at_most(
            told,
            0,
            unit="blocks",
            n=count,
            how="blocks of 64 KiB of other models in five formats, and of harmless files",
        )
    }
