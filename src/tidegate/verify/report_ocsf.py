"""A verification's findings as OCSF 1.4 events of class 2004 (Detection Finding), a JSON array.

https://schema.ocsf.io/1.4.0/classes/detection_finding. One event a finding, and one for the outcome
itself, so that an array is never empty.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from tidegate.units import Timestamp
from tidegate.verify.replay_findings import Found
from tidegate.verify.report import Report

CLASS: Final = 2004
_CATEGORY: Final = 2
_CREATE: Final = 1
_NEW: Final = 1
_INFORMATIONAL, _MEDIUM, _HIGH = 1, 3, 4
_SEVERITY: Final = {_INFORMATIONAL: "Informational", _MEDIUM: "Medium", _HIGH: "High"}


def ocsf(report: Report, now: Timestamp) -> bytes:
    """The report as events that happened at `now` (seconds since the Unix epoch)."""
    level = {"pass": _INFORMATIONAL, "fail": _HIGH}.get(report.outcome.outcome, _MEDIUM)
    head = _event(
        report, now, f"outcome: {report.outcome.outcome}", report.outcome.reason, level, None
    )
    events = [head]
    events += [
        _event(
            report,
            now,
            finding.kind,
            finding.reason,
            _HIGH if finding.conclusive else _MEDIUM,
            finding,
        )
        for finding in report.findings
    ]
    return msgspec.json.format(msgspec.json.encode(events), indent=1)


def _event(
    report: Report, now: Timestamp, title: str, text: str, severity: int, finding: Found | None
) -> dict[str, Any]:
    where = "" if finding is None else finding.where()
    # The same finding of the same record has one uid, so that a re-run updates and does not add.
    said = f"{report.verified.record}\n{report.root}\n{title}\n{where}\n{text}"
    event: dict[str, Any] = {
        "activity_id": _CREATE,
        "activity_name": "Create",
        "category_uid": _CATEGORY,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + _CREATE,
        "time": int(now * 1000),
        "severity_id": severity,
        "severity": _SEVERITY[severity],
        "status_id": _NEW,
        "status": "New",
        "message": text,
        "metadata": {
            "version": "1.4.0",
            "product": {"name": "Tidegate", "vendor_name": "Tidegate", "version": report.version},
        },
        "finding_info": {
            "uid": hashlib.sha256(said.encode()).hexdigest()[:32],
            "title": title,
            "desc": text,
            "types": [title] if finding is not None else ["verification"],
            "analytic": {"name": report.tool, "type_id": 1, "type": "Rule"},
        },
        "resources": [{"type": "record", "name": report.verified.record}],
    }
    if finding is not None:
        event["confidence_id"] = 3 if finding.conclusive else 2
        event["unmapped"] = {
            name: value
            for name, value in (
                ("entry", finding.entry),
                ("response", finding.response),
                ("token", finding.token),
            )
            if value is not None
        }
    return event
