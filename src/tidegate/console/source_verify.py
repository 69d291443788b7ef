"""What `tidegate verify --follow --live FILE` last wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from tidegate.clock import Clock
from tidegate.console.errors import SourceError
from tidegate.console.event import Event
from tidegate.console.picture import Martingale, Verification
from tidegate.verify.replay_findings import Found
from tidegate.verify.report import Report

STALE_S: Final = 60.0
"""A report that was not renewed for so long is history, not the present."""
_MOST_BYTES: Final = 16 << 20


class VerifySource:
    """The newest report. It is read anew only when it was written anew."""

    def __init__(self, path: Path, clock: Clock, *, stale_s: float = STALE_S) -> None:
        self._path, self._clock, self._stale = path, clock, stale_s
        self._seen: tuple[int, Verification] | None = None

    def read(self) -> Verification:
        """Raises SourceError: there is no report, it is no report, or it is old."""
        try:
            stat = self._path.stat()
            if stat.st_size > _MOST_BYTES:
                raise SourceError("the verifier's report is too large to be one")
            if self._seen is None or self._seen[0] != stat.st_mtime_ns:
                report = msgspec.json.decode(self._path.read_bytes(), type=Report)
                self._seen = (stat.st_mtime_ns, _shown(report, stat.st_mtime))
        except OSError as error:
            raise SourceError("the verifier has written no report yet") from error
        except msgspec.DecodeError as error:
            raise SourceError("the verifier's report cannot be read") from error
        age = self._clock.now() - stat.st_mtime
        if age > self._stale:
            raise SourceError(f"the verifier has said nothing for {age / 60:.0f} minutes")
        return self._seen[1]


class ReportFeed:
    """The report's findings as events; an answer's is about its principal's traffic, by number."""

    def __init__(self, path: Path, *, source: str = "verifier") -> None:
        self._path, self._source = path, source
        self._seen = 0

    def read(self) -> tuple[Event, ...]:
        """Raises SourceError: the report cannot be read."""
        try:
            stat = self._path.stat()
            if stat.st_mtime_ns == self._seen or stat.st_size > _MOST_BYTES:
                return ()
            report = msgspec.json.decode(self._path.read_bytes(), type=Report)
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            raise SourceError("the verifier's report cannot be read") from error
        self._seen = stat.st_mtime_ns
        return tuple(self._event(report, found, stat.st_mtime) for found in report.findings)

    def _event(self, report: Report, found: Found, written: float) -> Event:
        name = f"{report.verified.record} {found.kind} {found.where()}"
        return Event(
            uid=hashlib.sha256(name.encode()).hexdigest()[:32],
            time=written,
            severity=5 if found.conclusive else 3,
            kind=found.kind,
            source=self._source,
            subject="",
            title=f"{found.reason} ({found.where()})" if found.where() else found.reason,
            body=msgspec.to_builtins(found),
        )


def _shown(report: Report, written: float) -> Verification:
    leak = report.leak
    name = "fleet, log10 e-value" if not report.verified.exact else "tokens that differ"
    return Verification(
        outcome=report.outcome.outcome,
        reason=report.outcome.reason,
        answers=report.replayed,
        tokens=report.tokens,
        scored=report.scored_tokens,
        match_rate=report.match_rate,
        leak_share=None if leak is None else leak.share,
        leak_bits_a_token=None if leak is None else leak.bits_a_token,
        tests=(Martingale(name=name, curve=report.curve, alarm_at=None),),
        findings=report.kinds,
        written=written,
    )
