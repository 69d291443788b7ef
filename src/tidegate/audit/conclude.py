"""What an examination comes to: findings, the coverage of every principal, and the accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.audit.conclude_logs import log_findings
from tidegate.audit.conclude_reads import (
    CoverageRow,
    cluster_rows,
    coverage_findings,
    coverage_rows,
)
from tidegate.audit.conclude_tallies import tally_findings
from tidegate.audit.event import Place
from tidegate.audit.examine import Examiner
from tidegate.audit.findings import ORDER, Evidence, Finding
from tidegate.audit.settle import Account, accounts, grant_findings


@dataclass(frozen=True, slots=True)
class Source:
    """A log file: its name, its kind, what its evidence is counted in, and its records."""

    name: str
    kind: str
    unit: str
    records: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stream: its events, from when to when."""

    name: str
    events: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. `first`, `last`: the time of the earliest and the latest event, or None.

    stretch: seconds to which the times of reads are known.
    """

    findings: tuple[Finding, ...]
    coverage: tuple[CoverageRow, ...]
    accounts: tuple[Account, ...]
    streams: tuple[StreamRow, ...]
    sources: tuple[Source, ...]
    events: int
    outside: int
    repeated: int
    first: float | None
    last: float | None
    stretch: int

    @property
    def failed(self) -> bool:
        """Whether anything graver than a note was found."""
        return any(finding.gravity in ("error", "warning") for finding in self.findings)


def conclude(examined: Examiner, sources: Sequence[Source]) -> Report:
    """Findings come gravest first, then by time."""

    def shown(places: Sequence[Place]) -> tuple[Evidence, ...]:
        return tuple(
            Evidence(sources[place.source].name, sources[place.source].unit, place.line)
            for place in places
        )

    rows = coverage_rows(examined)
    clusters = cluster_rows(examined)
    found = [
        *coverage_findings(examined, rows, clusters, shown),
        *tally_findings(examined, sources, shown),
        *grant_findings(examined, shown),
        *log_findings(examined, shown),
    ]
    found.sort(
        key=lambda finding: (ORDER[finding.gravity], finding.time, finding.kind, finding.who)
    )
    return Report(
        findings=tuple(found),
        coverage=(*rows, *clusters),
        accounts=accounts(examined),
        streams=tuple(
            StreamRow(stream.name, stream.events, stream.first, stream.last)
            for _, stream in sorted(examined.streams.items())
        ),
        sources=tuple(sources),
        events=examined.events,
        outside=examined.outside,
        repeated=examined.repeated,
        first=examined.first if examined.events else None,
        last=examined.last if examined.events else None,
        stretch=examined.coverage.stretch,
    )
