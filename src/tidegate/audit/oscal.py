"""The report as OSCAL assessment results (NIST, JSON, version 1.2.1), and what it says in short.

Of one set of files and one time the document is one: identifiers are UUIDs of version 5, made from
what they name. OSCAL has two states; a control that cannot be verified is `not-satisfied` with the
reason `other`, and never passes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tidegate.audit.oscal_controls import CONTROLS, UNSHOWN, Control, Named, Unshown
from tidegate.audit.oscal_evidence import Evidence, Word
from tidegate.audit.oscal_measures import Measured, worst
from tidegate.units import Timestamp

OSCAL_VERSION: Final = "1.2.1"
_SPACE: Final = uuid.UUID("5f1f5c06-3f0e-5d0b-8a6d-6b7a0f5a9d21")
_NS: Final = "urn:tidegate:oscal"
_STATES: Final[dict[Word, tuple[str, str]]] = {
    "pass": ("satisfied", "pass"),
    "fail": ("not-satisfied", "fail"),
    "cannot_verify": ("not-satisfied", "other"),
}
LIMITS: Final = (
    "Each claim holds under the assumptions named beside it, and says no more than its words.",
    "A control is more than what software shows of it: a pass is evidence, not a certificate.",
    "Files are taken as given. Hold them against the log's witnesses and checkpoints of your own.",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One control: its outcome is the worst of its measures'."""

    control: Control
    outcome: Word
    measured: tuple[tuple[Named, Measured], ...]

    @property
    def value(self) -> str:
        """The measured values, on one line."""
        return "; ".join(one.value for _, one in self.measured)

    @property
    def used(self) -> tuple[Evidence, ...]:
        """The files behind it, each once."""
        return tuple(dict.fromkeys(file for _, one in self.measured for file in one.used))


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything: one finding a control, what cannot be shown, and the files."""

    at: Timestamp
    version: str
    findings: tuple[Finding, ...]
    unshown: tuple[Unshown, ...]
    evidence: tuple[Evidence, ...]

    @property
    def outcome(self) -> Word:
        """The worst of all."""
        return worst([finding.outcome for finding in self.findings])


def assess(evidence: Sequence[Evidence], at: Timestamp, version: str) -> Assessment:
    """Measure every control.

    Args:
        evidence: the files, from `oscal_evidence.read`.
        at: when, in seconds since the Unix epoch.
        version: Tidegate's.
    """
    measured = {
        named.name: named.measure(evidence) for control in CONTROLS for named in control.measures
    }
    findings = tuple(
        Finding(
            control,
            worst([measured[named.name].outcome for named in control.measures]),
            tuple((named, measured[named.name]) for named in control.measures),
        )
        for control in CONTROLS
    )
    return Assessment(at, version, findings, UNSHOWN, tuple(evidence))


def to_json(assessment: Assessment) -> bytes:
    """The OSCAL document."""
    return msgspec.json.format(msgspec.json.encode(_document(assessment)), indent=1)


def _document(assessment: Assessment) -> dict[str, Any]:
    when = datetime.fromtimestamp(assessment.at, UTC).isoformat(timespec="seconds")
    stamp = when.replace("+00:00", "Z")
    seed = "|".join([stamp, *(file.sha256 for file in assessment.evidence)])
    document: dict[str, Any] = {
        "uuid": _id("document", seed),
        "metadata": {
            "title": "Custody of model weights: evidence for standards",
            "last-modified": stamp,
            "version": assessment.version,
            "oscal-version": OSCAL_VERSION,
            "remarks": "\n\n".join(LIMITS),
        },
        "import-ap": {
            "href": "#" + _id("plan", seed),
            "remarks": "No separate assessment plan: the controls reviewed are listed below.",
        },
        "results": [_result(assessment, stamp, seed)],
        "back-matter": {"resources": [_plan(seed), *map(_resource, assessment.evidence)]},
    }
    return {"assessment-results": document}


def _result(assessment: Assessment, stamp: str, seed: str) -> dict[str, Any]:
    observed = {named.name: (named, one) for f in assessment.findings for named, one in f.measured}
    return {
        "uuid": _id("result", seed),
        "title": "What Tidegate's files show",
        "description": "One finding a control: claim, measured value, assumptions, raw files.",
        "start": stamp,
        "end": stamp,
        "reviewed-controls": {
            "control-selections": [
                {
                    "description": "Controls that software can say something about.",
                    "include-controls": [
                        {"control-id": finding.control.id} for finding in assessment.findings
                    ],
                }
            ],
            "remarks": "Controls that software cannot show are listed among the attestations.",
        },
        "attestations": [
            {
                "parts": [
                    {
                        "name": "cannot-be-shown-by-software",
                        "ns": _NS,
                        "title": f"{one.standard} {one.id}: {one.title}",
                        "prose": one.why,
                    }
                    for one in assessment.unshown
                ]
            }
        ],
        "observations": [_observation(*pair, stamp, seed) for pair in observed.values()],
        "findings": [_finding(finding, seed) for finding in assessment.findings],
    }


def _observation(named: Named, measured: Measured, stamp: str, seed: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "uuid": _id("observation", named.name, seed),
        "title": named.title,
        "description": measured.value,
        "props": [_prop("outcome", measured.outcome)],
        "methods": ["TEST" if named.name in _TESTED else "EXAMINE"],
        "types": ["control-objective"],
        "collected": stamp,
    }
    if measured.used:
        found["relevant-evidence"] = [
            {"href": "#" + _id("file", file.sha256), "description": f"{file.name}: {file.kind}"}
            for file in measured.used
        ]
    return found


def _finding(finding: Finding, seed: str) -> dict[str, Any]:
    control = finding.control
    state, reason = _STATES[finding.outcome]
    return {
        "uuid": _id("finding", control.id, seed),
        "title": f"{control.standard} {control.id}: {control.title}",
        "description": control.claim + ".",
        "props": [
            _prop("outcome", finding.outcome),
            _prop("claim", control.claim),
            _prop("measured-value", finding.value),
            *(_prop("assumption", one) for one in control.assumptions),
            *(_prop("raw-log-sha256", one.sha256, remarks=one.name) for one in finding.used),
        ],
        "target": {
            "type": "statement-id",
            "target-id": f"{control.id}_smt",
            "status": {"state": state, "reason": reason, "remarks": finding.value},
        },
        "related-observations": [
            {"observation-uuid": _id("observation", named.name, seed)}
            for named, _ in finding.measured
        ],
    }


def _resource(file: Evidence) -> dict[str, Any]:
    return {
        "uuid": _id("file", file.sha256),
        "title": file.name,
        "description": f"Written by `{file.kind}`; {file.size} bytes. Ask the assessed for it.",
        "rlinks": [
            {
                "href": f"urn:sha256:{file.sha256}",
                "hashes": [{"algorithm": "SHA-256", "value": file.sha256}],
            }
        ],
    }


def _plan(seed: str) -> dict[str, Any]:
    return {
        "uuid": _id("plan", seed),
        "title": "Assessment plan",
        "description": "None was written apart from this document.",
    }


def _prop(name: str, value: str, *, remarks: str = "") -> dict[str, str]:
    found = {"name": name, "ns": _NS, "value": " ".join(value.split())}
    return {**found, "remarks": remarks} if remarks else found


def _id(*parts: str) -> str:
    return str(uuid.uuid5(_SPACE, "\n".join(parts)))


_TESTED: Final = frozenset({"gate-caps", "channel-attackers", "re-execution"})
"""What was made by running attacks or answers again; the rest was read in records."""
