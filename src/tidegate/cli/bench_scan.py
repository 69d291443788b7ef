"""What `tidegate bench scan` measures, a part at a time; each part can run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice

from tidegate.bench.figures import Figure, Result
from tidegate.cli.bench import AsJson, Only, chosen_of, finish
from tidegate.cli.progress import bars
from tidegate.models.cache import Progress

OWN = "qwen2.5-coder-0.5b"
"""Stands for the owner's model; fingerprints were tried out on another."""
ROWS = 4096
FILES = 9000

Part = Callable[[Progress], dict[str, Figure]]


def scan(as_json: AsJson = False, only: Only = None) -> None:
    """The scanner: weights of held-out models told from text, own weights named, and how fast.

    Parts: separation (AUC), recall (chunks sighted), benign (false positives on 1 GB that nothing
    was tuned on, and on what was), own (fingerprints), evasions (what works beside what does not),
    speed. Models and texts are fetched as pinned packages, 1.2 GB in all. All together about a
    quarter of an hour.
    """
    chosen = chosen_of(only, PARTS)
    figures: dict[str, Figure] = {}
    with bars() as progress:
        for name in chosen:
            figures |= PARTS[name](progress)
    finish(Result("scan", figures), as_json)


def separation(progress: Progress) -> dict[str, Figure]:
    """AUC on held-out models."""
    from tidegate.bench import scan_data, scan_detect, scan_fresh

    harmless = islice(scan_fresh.texts(progress), 0, None, 8)
    return scan_detect.separation(
        scan_data.models(progress, ROWS), islice(harmless, FILES), progress
    )


def recall(progress: Progress) -> dict[str, Figure]:
    """Chunks of each size that are sighted."""
    from tidegate.bench import scan_data, scan_detect

    return scan_detect.recall(scan_data.models(progress, ROWS), progress)


def benign(progress: Progress) -> dict[str, Figure]:
    """False positives on harmless bytes, those that nothing was tuned on and those that were."""
    from tidegate.bench import scan_detect, scan_fresh, scan_tuned

    return scan_detect.false_positives(
        scan_fresh.texts(progress), scan_tuned.texts(progress), progress
    )


def own(progress: Progress) -> dict[str, Figure]:
    """Fingerprints of a model of half a billion weights."""
    from tidegate.bench import scan_data, scan_fresh, scan_own
    from tidegate.models.prepared import prepare

    path = prepare(OWN, progress=progress) / "model.safetensors"
    others = [m for m in scan_data.models(progress, ROWS) if m.name != "qwen"]
    harmless = list(islice(scan_fresh.texts(progress), 0, 4000))
    return scan_own.measure(path, others, harmless, progress)


def evasions(progress: Progress) -> dict[str, Figure]:
    """What a thief may try."""
    from tidegate.bench import scan_data, scan_evasions

    return scan_evasions.measure(scan_data.models(progress, ROWS), progress)


def speed(progress: Progress) -> dict[str, Figure]:
    """Megabytes a second of one core."""
    from tidegate.bench import scan_data, scan_detect, scan_fresh, scan_tuned

    return scan_detect.speed(
        [islice(one.texts(progress), 0, None, 16) for one in (scan_fresh, scan_tuned)],
        scan_tuned.answers(progress),
        scan_data.models(progress, ROWS),
        progress,
    )


PARTS: Mapping[str, Part] = {
    "separation": separation,
    "recall": recall,
    "benign": benign,
    "own": own,
    "evasions": evasions,
    "speed": speed,
}
