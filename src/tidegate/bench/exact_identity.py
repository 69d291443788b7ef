"""Are the exact engine's logits the same bits in every way of running it? And a float engine's?

One run is the reference: one prompt at a time, all its tokens at once, one thread. Every other
schedule, thread count and back end has to give the same bytes after every token. Slow ways of
running see fewer prompts; each figure says how many tokens it stands for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidegate.bench.exact_passes import Piece, Runner, Schedule, decode, prefill
from tidegate.bench.figures import Figure, at_least, report
from tidegate.models.cache import Progress
from tidegate.models.exact.backends import names
from tidegate.models.exact.format import Converted, read

Texts = Sequence[Sequence[int]]
Hashes = list[NDArray[np.uint64]]
"""For each text, a hash of the logits after each of its tokens."""

ALL = 1 << 62


@dataclass(frozen=True, slots=True)
class Way:
    """A way of running the engine, over prompts that hold at least `tokens` (or all there are)."""

    backend: str
    threads: int
    schedule: Schedule
    tokens: int

    @property
    def name(self) -> str:
        what = "decode" if self.schedule.step == 1 else "prefill"
        return f"{self.backend}.{what}{self.schedule.batch}.{self.threads}t"


def ways(fast: str) -> list[Way]:
    """Everything to compare with `fast`, one thread, prefill of one prompt at a time."""
    found = [
        Way(fast, threads, schedule, tokens)
        for schedule, tokens in (
            (prefill(1), ALL),
            (prefill(8), ALL),
            (prefill(32), ALL),
            (decode(32), 6_000),
            (decode(8), 2_000),
            (decode(1), 500),
        )
        for threads in (1, 2)
    ][1:]
    costs = {"torch-blas": 1_500, "torch-int_mm": 300, "native-int_mm": 600, "numpy": 1_000}
    for backend in names():
        if backend == fast:
            continue
        tokens = costs.get(backend, 1_500)
        found += [Way(backend, 2, prefill(1), tokens), Way(backend, 2, decode(32), tokens // 2)]
    return found


def measure(folder: Path, texts: Texts, progress: Progress) -> dict[str, Figure]:
    """Figures of one converted model. `texts` are token ids of real prompts."""
    model = read(folder)
    fast = names()[0]
    first = Way(fast, 1, prefill(1), ALL)
    want = _hashes(model, first, texts, progress)
    figures: dict[str, Figure] = {}
    compared = equal = 0
    for way in ways(fast):
        some = beginning(texts, way.tokens)
        found = _hashes(model, way, some, progress)
        n = sum(len(hashes) for hashes in found)
        same = sum(
            int((one == other).sum()) for one, other in zip(found, want[: len(found)], strict=True)
        )
        figures[f"identical.{way.name}"] = report(
            same / n, unit="of tokens", n=n, how=f"every logit, against {first.name}"
        )
        compared, equal = compared + n, equal + same
    tokens = sum(map(len, texts))
    ways_told = f"{len(figures)} ways of running, each against {first.name} over {tokens:,} tokens"
    return {
        "bit_identical_share": at_least(
            equal / compared, 1.0, unit="of tokens", n=compared, how=f"every logit; {ways_told}"
        ),
        "bit_identical_tokens": at_least(
            tokens, 20_000, unit="tokens", n=len(texts), how="of real prompts, in the reference run"
        ),
    } | figures


def beginning(texts: Texts, tokens: int) -> Texts:
    """The first texts, until they hold so many tokens."""
    total = 0
    for number, text in enumerate(texts):
        if total >= tokens:
            return texts[:number]
        total += len(text)
    return texts


def _hashes(model: Converted, way: Way, texts: Texts, progress: Progress) -> Hashes:
    found = [np.zeros(len(text), np.uint64) for text in texts]
    total = sum(map(len, texts))
    stage, done = f"bits: {way.name}", 0
    for piece in Runner(model, way.backend, way.threads).run(texts, way.schedule):
        found[piece.text][piece.first : piece.first + len(piece.logits_TV)] = hashes_of(piece)
        done += len(piece.logits_TV)
        progress(stage, done, total)
    return found


def hashes_of(piece: Piece) -> NDArray[np.uint64]:
    """64 bits of a hash over each row of logits."""
    return np.array([row_hash(row) for row in piece.logits_TV], np.uint64)


def row_hash(logits_V: NDArray[np.float32]) -> int:
    """64 bits of SHA-256 over the bytes of all logits."""
    data = np.ascontiguousarray(logits_V).data
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
