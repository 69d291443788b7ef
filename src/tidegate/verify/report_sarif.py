"""A verification's findings as SARIF 2.1.0 (OASIS), for code-scanning and CI dashboards.

One rule a kind of finding, one result a finding. The artifact is the record; a place in it is a
logical location, since entries have numbers and no lines.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tidegate.verify.record_findings import Kind
from tidegate.verify.replay_findings import Found, ReplayKind
from tidegate.verify.report import Report

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

_RULES: Final[dict[str, tuple[str, bool]]] = {
    kind.value: (text, kind.conclusive)
    for kinds in (
        {
            Kind.CORRUPT: "A line of the record cannot be read or does not chain on",
            Kind.TRUNCATED: "The record's last line is torn",
            Kind.REORDERED: "An entry stands where another should",
            Kind.DUPLICATED: "An entry, a token's place or an answer occurs twice",
            Kind.MISSING: "Entries, a segment or tokens are missing",
            Kind.OVERSIZED: "More at once than any writer leaves",
            Kind.UNKNOWN_MODEL: "The answering model is not the expected one",
            Kind.WRONG_TOKENIZER: "The tokenizer or vocabulary is not the expected one",
            Kind.WRONG_TEMPLATE: "The chat template is not the expected one",
            Kind.UNKNOWN_LORA: "The adapter is not the expected one",
            Kind.CONTRADICTORY_SEEDS: "A seed is not the one committed to, or serves twice",
            Kind.FORGED_CHECKPOINT: "A checkpoint is malformed or not signed by the record's key",
            Kind.ALTERED: "Entries are not those of a signed checkpoint",
            Kind.ROLLBACK: "The record ends before what is known of it elsewhere",
            Kind.SPLIT_VIEW: "Two signed checkpoints contradict each other",
            Kind.UNREADABLE: "What is private of an answer cannot be opened",
            Kind.UNSIGNED: "Entries are under no checkpoint",
            Kind.UNFINISHED: "An answer has not ended",
            Kind.UNRECORDED: "The writer says that answers left unrecorded",
        },
        {
            ReplayKind.OTHER_TOKEN: "The model gives another token than was served",
            ReplayKind.OTHER_END: "The answer ends elsewhere than the finish rules say",
            ReplayKind.ALARM: "More tokens deviate than honest machines' do",
            ReplayKind.WORKER_LOST: "The replay of an answer died",
            ReplayKind.REPLAY_FAILED: "The model cannot run the answer",
            ReplayKind.NOT_FOLLOWED: "The answer was drawn from what is not in the record",
        },
    )
    for kind, text in kinds.items()
}


def sarif(report: Report, artifact: str) -> bytes:
    """The report as a SARIF log of one run. `artifact` names the record, relative or as a URI.

    A verification that could not be made is an unsuccessful invocation with a notification, so that
    nobody takes a log without results for a pass.
    """
    return msgspec.json.format(msgspec.json.encode(_log(report, artifact)), indent=1)


def _log(report: Report, artifact: str) -> dict[str, Any]:
    used = sorted({finding.kind for finding in report.findings})
    outcome = report.outcome
    invocation: dict[str, Any] = {"executionSuccessful": outcome.outcome != "cannot_verify"}
    if outcome.outcome == "cannot_verify":
        invocation["toolExecutionNotifications"] = [
            {"level": "error", "message": {"text": f"Cannot verify: {outcome.reason}"}}
        ]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": report.tool,
                        "version": report.version,
                        "rules": [_rule(kind) for kind in used],
                    }
                },
                "invocations": [invocation],
                "artifacts": [{"location": {"uri": artifact}}],
                "results": [
                    _result(finding, used.index(finding.kind), artifact)
                    for finding in report.findings
                ],
                "properties": {
                    "outcome": outcome.outcome,
                    "reason": outcome.reason,
                    "scoredTokens": report.scored_tokens,
                    "mismatches": report.mismatches,
                    "findingsInAll": sum(report.kinds.values()),
                },
            }
        ],
    }


def _rule(kind: str) -> dict[str, Any]:
    text, conclusive = _RULES[kind]
    return {
        "id": kind,
        "shortDescription": {"text": text},
        "defaultConfiguration": {"level": "error" if conclusive else "warning"},
    }


def _result(finding: Found, rule: int, artifact: str) -> dict[str, Any]:
    physical = {"artifactLocation": {"uri": artifact, "index": 0}}
    location: dict[str, Any] = {"physicalLocation": physical}
    parts = (("entry", finding.entry), ("answer", finding.response), ("token", finding.token))
    named = [f"{name}/{value}" for name, value in parts if value is not None]
    if named:
        location["logicalLocations"] = [{"fullyQualifiedName": "/".join(named)}]
    return {
        "ruleId": finding.kind,
        "ruleIndex": rule,
        "level": "error" if finding.conclusive else "warning",
        "message": {"text": finding.reason},
        "locations": [location],
    }
