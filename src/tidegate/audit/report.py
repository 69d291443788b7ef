"""A report as JSON, SARIF 2.1.0 and OCSF 1.4 detection findings (class 2004)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tidegate.audit.conclude import Report
from tidegate.audit.conclude_reads import CoverageRow
from tidegate.audit.findings import WORDS, Finding
from tidegate.record.ocsf import Severity, detection
from tidegate.record.sarif import Result, Rule, log
from tidegate.units import Timestamp

_SEVERITIES: Final = {
    "error": Severity.HIGH,
    "warning": Severity.MEDIUM,
    "note": Severity.INFORMATIONAL,
    "none": Severity.INFORMATIONAL,
}


def to_json(report: Report) -> bytes:
    """One object: findings, coverage, accounts, streams, sources, and what was counted."""
    told = {
        "events": report.events,
        "outside_window": report.outside,
        "logged_twice": report.repeated,
        "first": report.first,
        "last": report.last,
        "time_resolution_s": report.stretch,
        "findings": [finding_json(finding) for finding in report.findings],
        "coverage": [_coverage(row) for row in report.coverage],
        "accounts": report.accounts,
        "streams": report.streams,
        "sources": report.sources,
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=1)


def finding_json(finding: Finding) -> dict[str, Any]:
    """One finding for machines."""
    return {
        "kind": finding.kind,
        "level": finding.gravity,
        "who": finding.who,
        "about": finding.about,
        "time": finding.time,
        "text": finding.text,
        "to_do": finding.to_do,
        "evidence": [
            {"source": one.source, one.unit: one.line, "text": str(one)} for one in finding.evidence
        ],
        "assumptions": list(finding.assumptions),
        "figures": dict(finding.figures),
    }


def _coverage(row: CoverageRow) -> dict[str, Any]:
    measured = row.measured
    return {
        "who": row.who,
        "tied_by": row.ties,
        "model": row.model,
        "under_grant": row.granted,
        "reads": row.reads,
        "first": row.first,
        "last": row.last,
        "model_bytes": measured.model.size,
        "least_bytes": measured.total.least,
        "most_bytes": measured.total.most,
        "windows": {
            f"{window.days}d": {
                "least_bytes": window.bounds.least,
                "most_bytes": window.bounds.most,
                "ends": window.end,
            }
            for window in measured.windows
        },
        "served_bytes": measured.served,
        "new_share": measured.fresh,
        "place_known_share": measured.known,
        "days": measured.days,
        "complete_shards": measured.shards,
        "bytes_a_day_now": row.rate,
        "days_left": row.days_left,
    }


def to_sarif(report: Report, version: str) -> bytes:
    """One run; a finding's place is its first evidence."""
    kinds = sorted({finding.kind for finding in report.findings})
    artifacts = list(dict.fromkeys(source.name for source in report.sources))
    return log(
        tool="tidegate audit",
        version=version,
        rules=[Rule(id=kind, text=WORDS[kind].text, level=WORDS[kind].level) for kind in kinds],
        results=[_result(finding) for finding in report.findings],
        artifacts=artifacts,
        properties={"events": report.events, "outsideWindow": report.outside},
    )


def _result(finding: Finding) -> Result:
    first = finding.evidence[0] if finding.evidence else None
    return Result(
        rule=finding.kind,
        level=finding.gravity,
        message=f"{finding.text}. {finding.to_do}",
        artifact=first.source if first else None,
        place=f"{first.unit}/{first.line}" if first else None,
        properties={
            "who": finding.who,
            "about": finding.about,
            "time": finding.time,
            "evidence": [str(one) for one in finding.evidence],
            "assumptions": list(finding.assumptions),
        },
    )


def to_ocsf(report: Report, version: str) -> bytes:
    """A JSON array, one event a finding, dated when what is logged first sufficed to say it."""
    return msgspec.json.format(
        msgspec.json.encode([_event(finding, version) for finding in report.findings]), indent=1
    )


def _event(finding: Finding, version: str) -> dict[str, Any]:
    event = detection(
        time=Timestamp(finding.time),
        severity=_SEVERITIES[finding.gravity],
        title=WORDS[finding.kind].text,
        text=finding.text,
        types=[finding.kind],
        analytic="tidegate audit",
        version=version,
        identity=f"{finding.kind}\n{finding.who}\n{finding.about}",
        resources=[{"name": finding.about, "type": "model or log"}] if finding.about else [],
    )
    event["remediation"] = {"desc": finding.to_do}
    event["unmapped"] = {
        "who": finding.who,
        "evidence": [str(one) for one in finding.evidence],
        "assumptions": list(finding.assumptions),
        "figures": dict(finding.figures),
    }
    return event
