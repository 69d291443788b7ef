"""A verification's findings as OCSF 1.4 events of class 2004 (Detection Finding), a JSON array.

One event a finding, and one for the outcome itself, so that an array is never empty.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tidegate.record.ocsf import Severity, detection
from tidegate.units import Timestamp
from tidegate.verify.replay_findings import Found
from tidegate.verify.report import Report

_OUTCOMES: Final = {"pass": Severity.INFORMATIONAL, "fail": Severity.HIGH}


def ocsf(report: Report, now: Timestamp) -> bytes:
    """The report as events that happened at `now` (seconds since the Unix epoch)."""
    outcome = report.outcome
    level = _OUTCOMES.get(outcome.outcome, Severity.MEDIUM)
    events = [_event(report, now, f"outcome: {outcome.outcome}", outcome.reason, level)]
    events += [_finding(report, now, finding) for finding in report.findings]
    return msgspec.json.format(msgspec.json.encode(events), indent=1)


def _finding(report: Report, now: Timestamp, finding: Found) -> dict[str, Any]:
    severity = Severity.HIGH if finding.conclusive else Severity.MEDIUM
    event = _event(report, now, finding.kind, finding.reason, severity, finding)
    places = (("entry", finding.entry), ("response", finding.response), ("token", finding.token))
    event["confidence_id"] = 3 if finding.conclusive else 2
    event["unmapped"] = {name: value for name, value in places if value is not None}
    return event


def _event(
    report: Report,
    now: Timestamp,
    title: str,
    text: str,
    severity: Severity,
    finding: Found | None = None,
) -> dict[str, Any]:
    where = "" if finding is None else finding.where()
    return detection(
        time=now,
        severity=severity,
        title=title,
        text=text,
        types=["verification" if finding is None else title],
        analytic=report.tool,
        version=report.version,
        identity=f"{report.verified.record}\n{report.root}\n{title}\n{where}\n{text}",
        resources=[{"type": "record", "name": report.verified.record}],
    )
