"""Findings from what was read: coverage of principals and of clusters, drips, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.audit.coverage import OTHERS, Track
from tidegate.audit.event import Place
from tidegate.audit.examine import Examiner
from tidegate.audit.findings import Evidence, Finding, Kind
from tidegate.audit.measure import Measured, measure
from tidegate.record.sarif import Level

Shown = Callable[[Sequence[Place]], tuple[Evidence, ...]]

MOST_ROWS: Final = 500
"""Principals whose coverage is worked out for a model: those that were served most."""

DRIP_DAYS: Final = 5
DRIP_FRESH: Final = 0.9
DRIP_BUSIEST: Final = 0.01
DRIP_SLOWEST: Final = 3650.0
"""Days to the whole model beyond which a drip is none: at 0.03% a day it takes ten years."""

UNPLACED: Final = (
    "Part of the logs do not say which bytes were served, only how many: at most, they were all "
    "different; at least, as many as the largest read."
)
OPENED: Final = "A file that was opened without a logged read counts as read whole, at most."
UNGRANTED: Final = "Reads under a grant are left out; every other read counts, whoever made it."
ALL_COUNT: Final = "No journal of grants was given: every read counts."


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """What a principal, or a cluster of them, read of a model.

    who: the principal; of a cluster, its principals. ties: what ties a cluster. granted: whether
    under grants. days_left: until the model is whole at the present rate, None if never.
    """

    who: tuple[str, ...]
    model: str
    granted: bool
    reads: int
    first: float
    last: float
    measured: Measured
    rate: float
    days_left: float | None
    places: tuple[Place, ...]
    ties: tuple[str, ...] = ()


def coverage_rows(examined: Examiner) -> tuple[CoverageRow, ...]:
    """One row a principal, model, and whether under grants; the largest first."""
    by_served = sorted(
        examined.coverage.tracks.items(), key=lambda item: _weight(item[1]), reverse=True
    )
    rows = [
        _row(examined, (who,), number, granted, [track])
        for (who, number, granted), track in by_served[:MOST_ROWS]
    ]
    return tuple(sorted(rows, key=lambda row: -row.measured.share()))


def cluster_rows(examined: Examiner) -> tuple[CoverageRow, ...]:
    """One row a cluster and model that several of its principals read outside grants."""
    rows = []
    for members, ties in examined.ties.clusters():
        for number in range(len(examined.guarded.models)):
            found = (examined.coverage.of(who, number, False) for who in members)
            tracks = [track for track in found if track is not None]
            if len(tracks) > 1:
                rows.append(_row(examined, members, number, False, tracks, ties))
    return tuple(rows)


def _weight(track: Track) -> int:
    return sum(cell.served + (len(cell.opened) << 40) for cell in track.cells.values())


def _row(
    examined: Examiner,
    who: tuple[str, ...],
    number: int,
    granted: bool,
    tracks: Sequence[Track],
    ties: tuple[str, ...] = (),
) -> CoverageRow:
    model = examined.guarded.models[number]
    measured = measure(tracks, model, examined.coverage.stretch)
    places = sorted(place for track in tracks for place in track.evidence()[:3])
    return CoverageRow(
        who=who,
        model=model.name,
        granted=granted,
        reads=sum(track.reads for track in tracks),
        first=min(track.first for track in tracks),
        last=max(track.last for track in tracks),
        measured=measured,
        rate=measured.rate(examined.last),
        days_left=measured.days_left(examined.last),
        places=tuple(places[:6] if ties else tracks[0].evidence()),
        ties=ties,
    )


def coverage_findings(
    examined: Examiner,
    rows: Sequence[CoverageRow],
    clusters: Sequence[CoverageRow],
    shown: Shown,
) -> Iterator[Finding]:
    """Everything that follows from how much of a model was read outside grants."""
    alone = {(row.who[0], row.model): row for row in rows if not row.granted}
    for row in alone.values():
        yield from _single(examined, row, shown)
    for row in clusters:
        members = [alone[who, row.model] for who in row.who if (who, row.model) in alone]
        largest = max((member.measured.share() for member in members), default=0.0)
        share = row.measured.share()
        # Where one member alone is as bad, the finding is his.
        if share <= 1.2 * largest:
            continue
        yield from _drip(examined, row, shown)
        if largest < 1.0:
            yield from _complete(examined, row, shown)
        if share >= examined.settings.note_share:
            yield _finding(
                examined, Kind.CLUSTER, row, shown, examined.settings.note_share,
                f"{len(row.who)} principals that share {_listed(row.ties)} have together read "
                f"{_extent(row.measured)} of {row.model}; the largest of them alone "
                f"{_percent(largest)}",
            )  # fmt: skip


def _single(examined: Examiner, row: CoverageRow, shown: Shown) -> Iterator[Finding]:
    settings, measured = examined.settings, row.measured
    share = measured.share()
    drips = list(_drip(examined, row, shown))
    yield from drips
    complete = list(_complete(examined, row, shown))
    yield from complete
    # A drip's finding says how much it has, until it has so much that this is the graver one.
    if share >= (settings.alarm_share if drips else settings.note_share) and not complete:
        yield _finding(
            examined, Kind.COVERAGE, row, shown, settings.note_share,
            f"{row.who[0]} has read {_extent(measured)} of {row.model} in {row.reads:,} reads on "
            f"{measured.days} days{_windows(measured)}",
            "error" if share >= settings.alarm_share else "warning",
        )  # fmt: skip
    left = row.days_left
    if left is not None and 0 < left <= settings.days_left and share >= settings.note_share:
        yield _finding(
            examined, Kind.TIME_LEFT, row, shown, settings.note_share,
            f"{row.who[0]} has the whole of {row.model} in {left:.1f} days if it goes on as in the "
            f"last week ({_size(row.rate)} a day new to it, {_extent(measured)} so far)",
        )  # fmt: skip


def _complete(examined: Examiner, row: CoverageRow, shown: Shown) -> Iterator[Finding]:
    measured = row.measured
    if measured.total.most < measured.model.size:
        return
    sure = measured.total.least >= measured.model.size
    yield _finding(
        examined, Kind.COMPLETE, row, shown, 1.0,
        f"{_listed(row.who)} {'has' if sure else 'may have'} read all {len(measured.model.shards)} "
        f"shards of {row.model}, {_size(measured.model.size)}, outside any grant"
        + ("" if sure else f" ({_extent(measured)})"),
    )  # fmt: skip


def _drip(examined: Examiner, row: CoverageRow, shown: Shown) -> Iterator[Finding]:
    """Many days, little each, always something new: nobody loads a model in that way."""
    measured = row.measured
    share, span = measured.share(), max(1.0, (row.last - row.first) / 86_400)
    fresh = measured.fresh is None or measured.known < 0.5 or measured.fresh >= DRIP_FRESH
    if (
        measured.days < DRIP_DAYS
        or measured.busiest > DRIP_BUSIEST
        or share <= 0
        or span / share > DRIP_SLOWEST
        or not fresh
        or OTHERS in row.who
    ):
        return
    told = (
        f"{100 * (measured.fresh or 0):.0f}% of what it was served was new to it"
        if measured.known >= 0.5
        else "the logs do not say which bytes"
    )
    yield _finding(
        examined, Kind.DRIP, row, shown, share * DRIP_DAYS / measured.days,
        f"{_listed(row.who)} read of {row.model} on {measured.days} days, never more than "
        f"{_percent(measured.busiest)} of it a day, {_extent(measured)} by now; {told}. At this "
        f"rate it is whole in {span / share - span:,.0f} days",
        "error" if measured.known >= 0.5 else "warning",
    )  # fmt: skip


def _finding(
    examined: Examiner,
    kind: Kind,
    row: CoverageRow,
    shown: Shown,
    threshold: float,
    text: str,
    level: Level | None = None,
) -> Finding:
    measured = row.measured
    assumed = [UNGRANTED if examined.journal is not None else ALL_COUNT]
    if measured.known < 1.0:
        assumed.append(UNPLACED)
    if measured.opened:
        assumed.append(OPENED)
    if row.ties:
        assumed.append("One person stands behind principals that share these.")
    return Finding(
        kind=kind,
        who=_listed(row.who),
        about=row.model,
        text=text,
        time=measured.crossed(min(threshold, measured.share())) or row.last,
        level=level,
        evidence=shown(row.places),
        assumptions=tuple(assumed),
        figures={
            "least_bytes": measured.total.least,
            "most_bytes": measured.total.most,
            "model_bytes": measured.model.size,
            "reads": row.reads,
            "days": measured.days,
            "busiest_day_share": measured.busiest,
            "bytes_a_day_now": round(row.rate),
            "days_left": row.days_left,
            "complete_shards": measured.shards,
            "windows": {
                f"{window.days}d": [window.bounds.least, window.bounds.most]
                for window in measured.windows
            },
        },
    )


def _extent(measured: Measured) -> str:
    least, most = measured.total.least, measured.total.most
    size = measured.model.size
    if least == most:
        return f"{_percent(most / size)} ({_size(most)})"
    return f"between {_percent(least / size)} and {_percent(most / size)} ({_size(most)} at most)"


def _windows(measured: Measured) -> str:
    size = measured.model.size
    told = [
        f"{_percent(window.bounds.most / size)} within {window.days} d"
        for window in measured.windows
        if window.bounds.most < measured.total.most
    ]
    return f"; at most {', '.join(told)}" if told else ""


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
