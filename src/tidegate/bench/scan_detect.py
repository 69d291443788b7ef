"""How well weights of held-out models are told from text, and what harmless traffic sets off."""

from __future__ import annotations

import gzip
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np

from tidegate.bench.figures import Figure, at_least, at_most, report
from tidegate.bench.scan_data import TUNED_ON, Model
from tidegate.bench.scan_formats import FORMATS, WRAPPINGS
from tidegate.bench.scan_texts import Text
from tidegate.models.cache import Progress
from tidegate.scan import unwrap_text
from tidegate.scan.calibration import WEIGHING, Calibration
from tidegate.scan.seen import is_dull, may_stand_for
from tidegate.scan.sighting import Sighting
from tidegate.scan.stream import BLOCK, Scanner, scan
from tidegate.scan.windows import LEAST_WINDOW, measure

Scores = np.ndarray[Any, np.dtype[np.float32]]

KIB: Final = 1024
_WRAPPED: Final = ("raw", "base64", "zstd", "gzip", "encrypted")
_CHUNKS: Final = (1, 4, 16, 64)
_TIMED_BYTES: Final = 1 << 26
_GZIP: Final = b"\x1f\x8b"
_JSON: Final = (b"{", b"[")
_TURNS: Final = 3
BENIGN_BYTES: Final = 10**9


def score_of(piece: bytes) -> float:
    """The scanner's score of one window by itself, decoded first where the scanner would."""
    measures = measure(piece, len(piece))
    plain = float(WEIGHING.score(measures)[0])
    loud = plain > Calibration().line(len(piece))
    decoded = unwrap_text.decode(piece) if loud or is_dull(measures)[0] else None
    if (
        decoded is None
        or decoded.layer == unwrap_text.DECIMAL
        or len(decoded.data) < LEAST_WINDOW
        or not (loud or may_stand_for(decoded.layer, piece, float(measures.cost_W[0])))
    ):
        return plain
    return float(WEIGHING.score(measure(decoded.data, len(decoded.data)))[0])


def area(harmless_N: Scores, weights_M: Scores) -> float:
    """Area under the ROC curve: how often weights score above text, ties counted half."""
    order = np.sort(harmless_N)
    below = np.searchsorted(order, weights_M, side="left") + np.searchsorted(
        order, weights_M, side="right"
    )
    return float(below.mean() / (2 * len(order)))


def separation(
    models: Sequence[Model], harmless: Iterable[Text], progress: Progress
) -> dict[str, Figure]:
    """AUC of single windows of 4 KiB and 1 KiB, over every model, format and wrapping.

    Text that comes in gzip is unpacked, as the scanner does with streams; a window cut out of it
    as it lies is no text, and cannot be told from compressed weights. `as_packed` counts that in.
    """
    packed = [text.data for text in harmless]
    files = [gzip.decompress(d) if d.startswith(_GZIP) else d for d in packed]
    figures: dict[str, Figure] = {}
    for size in (4 * KIB, KIB):
        name = f"auc_{size // KIB}k"
        text_N = np.array([score_of(w) for data in files for w in _windows(data, size, 4)])
        found: dict[str, Scores] = {}
        for done, (label, data) in enumerate(_positives(models)):
            progress(name, done, len(models) * len(FORMATS) * len(_WRAPPED))
            found[label] = np.array([score_of(w) for w in _windows(data, size, 64)])
        progress(name, len(found), len(found))
        pooled = np.concatenate(list(found.values()))
        areas = {label: area(text_N, score_M) for label, score_M in found.items()}
        worst = min(areas, key=areas.__getitem__)
        how = (
            f"windows of {size} bytes by themselves: {len(pooled)} of {len(models)} models in "
            f"{len(FORMATS)} formats and {len(_WRAPPED)} wrappings, {len(text_N)} of text; "
            f"none of these was tuned on ({TUNED_ON})"
        )
        count = len(pooled) + len(text_N)
        if size == 4 * KIB:
            figures[name] = at_least(area(text_N, pooled), 0.99, unit="AUC", n=count, how=how)
        else:
            figures[name] = report(area(text_N, pooled), unit="AUC", n=count, how=how)
        packed_N = np.array([score_of(w) for data in packed for w in _windows(data, size, 4)])
        figures[f"{name}.as_packed"] = report(
            area(packed_N, pooled),
            unit="AUC",
            n=len(pooled) + len(packed_N),
            how="the same with windows of text in gzip as they lie, not unpacked",
        )
        figures[f"{name}.worst"] = report(
            areas[worst], unit="AUC", n=len(found[worst]), how=f"the least of all: {worst}"
        )
        for form in FORMATS:
            of_form = np.concatenate([s for label, s in found.items() if f" {form} " in label])
            figures[f"{name}.{form}"] = report(
                area(text_N, of_form), unit="AUC", n=len(of_form), how=f"{form} alone"
            )
    return figures


def _positives(models: Sequence[Model]) -> Iterable[tuple[str, bytes]]:
    for model in models:
        for form, write in FORMATS.items():
            data = write(model.rows_RC)[: 1 << 19]
            for wrapping in _WRAPPED:
                yield f"{model.name} {form} {wrapping}", WRAPPINGS[wrapping](data)


def _windows(data: bytes, size: int, most: int) -> list[bytes]:
    """At most so many whole windows, evenly from all over."""
    count = len(data) // size
    return [data[i * size : (i + 1) * size] for i in range(0, count, max(1, -(-count // most)))]


def recall(models: Sequence[Model], progress: Progress) -> dict[str, Figure]:
    """Share of chunks, each a stream of its own, that the scanner tells of."""
    figures: dict[str, Figure] = {}
    for chunk in _CHUNKS:
        told: Counter[bool] = Counter()
        for label, data in _positives(models):
            del label
            pieces = _windows(data, chunk * KIB, 8)
            told.update(bool(scan(piece)) for piece in pieces)
        progress("recall", _CHUNKS.index(chunk) + 1, len(_CHUNKS))
        figures[f"recall.{chunk}k"] = report(
            told[True] / told.total(),
            unit="share",
            n=told.total(),
            how=f"chunks of {chunk} KiB sighted at the packaged thresholds, all formats, wrappings",
        )
    return figures


def false_positives(
    harmless: Iterable[Text], tuned: Iterable[Text], progress: Progress
) -> dict[str, Figure]:
    """Share of harmless windows that anything at all is said of: on text that nothing was tuned on,
    and on text that rules were changed after."""
    rate, windows, size, said = _told_of(harmless, progress)
    tuned_rate, tuned_windows, _, tuned_said = _told_of(tuned, progress)
    return {
        "benign_false_positive_rate": at_most(
            rate,
            1e-3,
            unit="share",
            n=windows,
            how=f"windows of 4 KiB touched by any sighting, nothing was tuned on these; {said}",
        ),
        "benign_bytes": at_least(
            size, BENIGN_BYTES, unit="B", n=windows, how=f"not among what was tuned on: {TUNED_ON}"
        ),
        "benign_false_positive_rate.tuned": report(
            tuned_rate,
            unit="share",
            n=tuned_windows,
            how=f"the same where rules were changed after earlier runs; {tuned_said}",
        ),
    }


def _told_of(harmless: Iterable[Text], progress: Progress) -> tuple[float, int, int, str]:
    """Share of windows told of, how many there are, bytes, and the same by source in words."""
    size: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for text in harmless:
        size[text.source] += len(text.data)
        told[text.source] += -(-_covered(scan(text.data)) // (4 * KIB))
        progress("harmless bytes", size.total(), max(BENIGN_BYTES, size.total()))
    windows = size.total() // (4 * KIB)
    sources = "; ".join(f"{s}: {n / 1e6:.0f} MB, {told[s]} windows" for s, n in size.items())
    return told.total() / max(1, windows), windows, size.total(), sources


def _covered(sightings: Iterable[Sighting]) -> int:
    """Bytes of the stream that sightings cover, each counted once."""
    total, reached = 0, 0
    for start, stop in sorted((s.offset, s.offset + s.length) for s in sightings):
        total += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return total


def speed(
    corpora: Iterable[Iterable[Text]],
    answers: Iterable[Text],
    models: Sequence[Model],
    progress: Progress,
) -> dict[str, Figure]:
    """Processor time of one thread over streams that are in memory, as much of each corpus."""
    each = [[text.data for text in corpus] for corpus in corpora]
    files = [data for one in each for data in one]
    plain = [
        b"".join(data for data in one if not data.startswith(_GZIP))[: _TIMED_BYTES // len(each)]
        for one in each
    ]
    streams = {
        "mb_per_s": b"".join(plain)[:_TIMED_BYTES],
        "mb_per_s.json": b"".join(d for d in files if d.startswith(_JSON))[: _TIMED_BYTES // 2],
        "mb_per_s.packed": b"".join(data for data in files if data.startswith(_GZIP)),
        "mb_per_s.sse": b"".join(text.data for text in islice(answers, 2000))[: _TIMED_BYTES // 4],
        "mb_per_s.weights": b"".join(m.rows_RC.tobytes() for m in models)[: _TIMED_BYTES // 4],
    }
    says = {
        "mb_per_s": "harmless text files of both corpora one after the other",
        "mb_per_s.json": "those of them that are JSON",
        "mb_per_s.packed": "text files in gzip, counted as packed",
        "mb_per_s.sse": "answers streamed a word an event",
        "mb_per_s.weights": "nothing but fp32 weights, each block told of",
    }
    figures: dict[str, Figure] = {}
    for done, (key, data) in enumerate(streams.items()):
        progress("speed", done, len(streams))
        best = min(_timed(data) for _ in range(_TURNS))
        rate = len(data) / best / 1e6
        how = (
            f"{says[key]}, {len(data) / 1e6:.0f} MB, one thread's processor time, best of {_TURNS}"
        )
        if key == "mb_per_s":
            figures[key] = at_least(rate, 150, unit="MB/s", n=_TURNS, how=how)
        else:
            figures[key] = report(rate, unit="MB/s", n=_TURNS, how=how)
    progress("speed", len(streams), len(streams))
    return figures


def _timed(data: bytes) -> float:
    begun = time.process_time()
    scanner = Scanner()
    for at in range(0, len(data), BLOCK):
        scanner.feed(data[at : at + BLOCK])
    scanner.close()
    return time.process_time() - begun
