"""Do the meters agree, and if not, which of them lies? Pure.

1. Every reading keeps its own identities: `wire = IP + 14·packets + non-IP`, and its rows add up.
2. No meter goes back, and none began anew.
3. In every field that several meters count, their spans have an instant in common.

A span is `[before - behind, after]`: between its ends is what was in flight, and `behind` is what a
queue after the meter still holds or dropped. While nothing moves, spans are points, and agreement
is to the byte; such a boundary is *settled*. Counts run on from boundary to boundary, so what is
missing once stays missing, and the first settled boundary shows it.

A meter is named where it breaks an identity, or where it alone stands against the others. Two
meters that lie alike outvote an honest one: hence their different hosts and code paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

from tidegate.gate.meter_port import (
    FIELDS,
    PROTOCOLS,
    Boundary,
    Counted,
    Reading,
    Rows,
    Span,
    summed,
)

LARGEST_PACKET: Final = 1 << 17
"""Bytes on the wire of the largest super-packet (64 KiB of data) down to segments of 66 bytes."""

SMALLEST_FRAME: Final = 42
"""Bytes of the smallest frame that the kernel sends: an ARP packet, or an empty UDP datagram."""

_TOTAL = "all"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit: where, what each meter says at least and at most, and who lies.

    `liars` is empty where it cannot be told.
    """

    row: str
    field: str
    said: tuple[tuple[str, int, int], ...]
    liars: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The finding, for people."""
        said = ", ".join(
            f"{meter} {low}" if low == high else f"{meter} {low} to {high}"
            for meter, low, high in self.said
        )
        named = " and ".join(self.liars)
        return f"{self.field} of {self.row}: {said}" + (f"; {named} is wrong" if named else "")


@dataclass(frozen=True, slots=True)
class Agree:
    """The meters agree, to the byte where `settled`, else within what is in flight.

    `in_flight` is the most bytes that a lie could hide in.
    """

    boundary: Boundary
    settled: bool
    in_flight: int


@dataclass(frozen=True, slots=True)
class Disagree:
    """They do not. `liars` are the meters that are wrong, where that can be told."""

    boundary: Boundary
    liars: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class CannotTell:
    """A reading is missing or of something else. Nothing is known, and nothing may pass on it."""

    boundary: Boundary
    reason: str


Verdict: TypeAlias = Agree | Disagree | CannotTell


def reconcile(base: Sequence[Reading], spans: Sequence[Span], *, least: int = 3) -> Verdict:
    """Hold meters against each other.

    Args:
        base: one reading a meter, of an instant at which they were taken to agree and nothing was
            in flight; counts are held against each other from there on.
        spans: one span a meter, all around one instant of the same boundary.
        least: how many meters there have to be for anything to pass.
    """
    boundary = spans[0].after.boundary if spans else Boundary(0, 0, "")
    missing = _missing(base, spans, least)
    if missing is not None:
        return CannotTell(boundary, missing)
    views = [_View(span, reading) for span, reading in zip(spans, base, strict=True)]
    findings = [finding for view in views for finding in view.breaks()]
    known = {name for finding in findings for name in finding.liars}
    for row in (_TOTAL, *PROTOCOLS):
        for field in FIELDS:
            asked = [view for view in views if view.knows(row, field)]
            finding = _compared(row, field, [view.bounds(row, field) for view in asked])
            if finding is not None:
                known.update(finding.liars)
                findings.append(finding)
    if findings:
        return Disagree(boundary, tuple(sorted(known)), tuple(findings))
    flights = [view.in_flight() for view in views]
    return Agree(boundary, not any(flights), max(flights))


def _missing(base: Sequence[Reading], spans: Sequence[Span], least: int) -> str | None:
    names = [span.meter for span in spans]
    if len(set(names)) < max(1, least, len(spans)):
        return f"{least} different meters are needed, and there are {', '.join(names) or 'none'}"
    if [reading.meter for reading in base] != names:
        return "the meters are not those that were there at the start"
    if any(span.before.meter != span.after.meter for span in spans):
        return "a span is of two meters"
    if len({reading.boundary for span in spans for reading in (span.before, span.after)}) > 1:
        return "the readings are of different boundaries"
    if len({reading.boundary.boot_id for reading in (*base, spans[0].after)}) > 1:
        return "the machine was started anew since the meters were"
    for reading, span in zip(base, spans, strict=True):
        if not reading.since == span.before.since == span.after.since:
            return f"the meter {span.meter} began anew: it was {reading.since}"
    return None


@dataclass(frozen=True, slots=True)
class _View:
    """One meter's span, counted from the base."""

    span: Span
    base: Reading

    @property
    def meter(self) -> str:
        return self.span.meter

    def knows(self, row: str, field: str) -> bool:
        # Who tells IP from the rest has read the headers, and so knows the protocols.
        known = self.span.after.knows
        return field in known and (row == _TOTAL or "packets" in known)

    def bounds(self, row: str, field: str) -> tuple[str, int, int]:
        behind = self.behind()
        # Of so many bytes no more frames can be made.
        if "bytes" not in field:
            behind //= SMALLEST_FRAME
        before, after, start = (
            getattr(_row(reading, row), field)
            for reading in (self.span.before, self.span.after, self.base)
        )
        return self.meter, before - start - behind, after - start

    def behind(self) -> int:
        """Bytes that were counted, at most, and have not left."""
        before, after = self.span.before, self.span.after
        dropped = after.dropped - self.base.dropped
        return max(before.queued, after.queued) + LARGEST_PACKET * dropped

    def in_flight(self) -> int:
        """Bytes between the ends of the span; at least 1 where anything moves."""
        if self.behind() or self.span.before.total != self.span.after.total:
            moved = self.span.after.total.wire_bytes - self.span.before.total.wire_bytes
            return max(1, moved + self.behind())
        return 0

    def breaks(self) -> Iterator[Finding]:
        """What is wrong with this meter's word by itself."""
        me = (self.meter,)
        for reading in (self.span.before, self.span.after):
            if set(FIELDS) <= set(reading.knows):
                for row, counted in ((_TOTAL, reading.total), *reading.protocols):
                    if counted.unexplained:
                        explained = counted.wire_bytes - counted.unexplained
                        said = _points(explained=explained, counted=counted.wire_bytes)
                        yield Finding(row, "wire_bytes", said, me)
                for name, rows in self._sums(reading):
                    total = summed(rows)
                    if (total.frames, total.wire_bytes) != (
                        reading.total.frames,
                        reading.total.wire_bytes,
                    ):
                        said = _points(summed=total.wire_bytes, all=reading.total.wire_bytes)
                        yield Finding(f"the sum of {name}", "wire_bytes", said, me)
        steps = ((self.base, self.span.before), (self.span.before, self.span.after))
        for earlier, later in steps:
            if _went_back(earlier, later):
                said = _points(earlier=earlier.total.wire_bytes, later=later.total.wire_bytes)
                yield Finding("counts that went back", "wire_bytes", said, me)

    def _sums(self, reading: Reading) -> Iterator[tuple[str, Rows]]:
        yield "protocols", reading.protocols
        # Counted beside the total, not as parts of it: while it moves they may be a frame apart.
        if reading.classes and self.span.before.total == self.span.after.total:
            yield "classes", reading.classes


def _compared(row: str, field: str, said: Sequence[tuple[str, int, int]]) -> Finding | None:
    """Who stands against whom in one field; None where all spans have an instant in common."""
    if all(_overlap(one, other) for one, other in combinations(said, 2)):
        return None
    alone = [
        out[0]
        for out in said
        if len(said) > 2
        and all(
            _overlap(one, other)
            for one, other in combinations([kept for kept in said if kept is not out], 2)
        )
    ]
    return Finding(row, field, tuple(said), tuple(alone) if len(alone) == 1 else ())


def _overlap(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[1] <= other[2] and other[1] <= one[2]


def _row(reading: Reading, row: str) -> Counted:
    return reading.total if row == _TOTAL else dict(reading.protocols).get(row, Counted())


def _went_back(earlier: Reading, later: Reading) -> bool:
    rows = {name for name, _ in (*earlier.protocols, *later.protocols)} | {_TOTAL}
    return any(
        getattr(_row(later, row), field) < getattr(_row(earlier, row), field)
        for row in rows
        for field in FIELDS
    )


def _points(**said: int) -> tuple[tuple[str, int, int], ...]:
    return tuple((name, value, value) for name, value in said.items())
