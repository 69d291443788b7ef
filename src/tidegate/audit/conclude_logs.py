"""Findings about the logs themselves: gaps, and kinds of events that are missing altogether."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from tidegate.audit.event import Place
from tidegate.audit.examine import Examiner
from tidegate.audit.findings import Evidence, Finding, Kind
from tidegate.audit.streams import Stream, gaps

Shown = Callable[[Sequence[Place]], tuple[Evidence, ...]]

_READS = {
    "s3": ("cloudtrail s3 data", "s3 access"),
    "gs": ("gcp data access",),
    "az": ("azure StorageRead",),
    "file": ("auditd",),
    "k8s": ("kubernetes audit",),
}
"""For each kind of store, the streams that hold reads of its objects."""


def log_findings(examined: Examiner, shown: Shown) -> Iterator[Finding]:
    """What the logs cannot say, said."""
    for _, stream in sorted(examined.streams.items()):
        for gap in gaps(stream):
            yield Finding(
                kind=Kind.GAP,
                about=stream.name,
                text=f"{stream.name}: nothing from {moment(gap.start)} to {moment(gap.end)}, where "
                f"it never is: {gap.why}",
                time=gap.end,
                evidence=_from(stream, shown),
                assumptions=("The log's hours resemble each other from day to day.",),
                figures={"start": gap.start, "end": gap.end},
            )
    yield from _missing_reads(examined, shown)
    keyed = any(model.keys for model in examined.guarded.models)
    if keyed and not examined.decrypts and examined.events:
        yield Finding(
            kind=Kind.NO_KEY_EVENTS,
            text="The models file names keys, and no log given here holds any use of a key",
            time=examined.first,
        )
    if examined.journal is None and examined.guarded.models:
        yield Finding(
            kind=Kind.NO_GRANTS,
            text="Nothing was reconciled: no journal of grants was given",
            time=examined.first if examined.events else 0.0,
        )


def _missing_reads(examined: Examiner, shown: Shown) -> Iterator[Finding]:
    schemes = {at.partition("://")[0] for model in examined.guarded.models for at in model.places}
    for scheme in sorted(schemes & set(_READS)):
        known = any(name in examined.streams for name in _READS[scheme])
        # Another store's log, read as our own events, holds reads under a name of its own.
        if examined.events and not known and scheme not in examined.reading.values():
            yield _blind(
                examined, scheme,
                f"A model lies in {scheme}://, and no log given holds reads of its objects (looked "
                f"for: {', '.join(_READS[scheme])})",
                (),
            )  # fmt: skip
    trail = examined.streams.get("cloudtrail management")
    objects = any(name in examined.streams for name in _READS["s3"])
    if trail is not None and not objects and "s3" not in schemes:
        yield _blind(
            examined, "s3",
            f"CloudTrail has {trail.events:,} management events from {moment(trail.first)} to "
            f"{moment(trail.last)}, and not one S3 data event: whether any object was read cannot "
            f"be seen from it. Of keys it has {examined.decrypts:,} uses",
            _from(trail, shown),
        )  # fmt: skip


def _blind(examined: Examiner, scheme: str, text: str, evidence: tuple[Evidence, ...]) -> Finding:
    return Finding(
        kind=Kind.NO_DATA_EVENTS,
        about=scheme,
        text=text,
        time=examined.last,
        evidence=evidence,
        assumptions=("All logs of this store were given.",),
        figures={"decrypts_seen": examined.decrypts},
    )


def _from(stream: Stream, shown: Shown) -> tuple[Evidence, ...]:
    return shown([stream.first_place]) if stream.first_place is not None else ()


def moment(time: float) -> str:
    """Seconds since the epoch as text, UTC, to the second."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{time:.0f} s"
