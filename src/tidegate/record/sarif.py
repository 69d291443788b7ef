"""SARIF 2.1.0 (OASIS) as every part of Tidegate that finds something writes it: one run a log.

What the rules, results and places are is the caller's; what a log looks like is said here once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

Level = Literal["none", "note", "warning", "error"]
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A kind of finding. `level`: how grave its findings are unless they say otherwise."""

    id: str
    text: str
    level: Level | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One finding, or with kind `pass` the absence of one.

    `artifact`: what it is in, relative or as a URI; `place`: where in it, as a path of names, since
    what we examine has entries and offsets and no lines.
    """

    rule: str
    level: Level
    message: str
    kind: Literal["pass", "fail"] | None = None
    artifact: str | None = None
    place: str | None = None
    properties: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)


def log(
    *,
    tool: str,
    version: str,
    rules: Sequence[Rule],
    results: Sequence[Result],
    refusal: str | None = None,
    artifacts: Sequence[str] = (),
    properties: Mapping[str, Any] = _NOTHING,
) -> bytes:
    """A log of one run, as JSON.

    `refusal`: why the run could not be made: an unsuccessful invocation with a notification, so
    that nobody takes a log without results for a pass. Raises ValueError where a result's rule is
    not among the rules.
    """
    order = [rule.id for rule in rules]
    invocation: dict[str, Any] = {"executionSuccessful": refusal is None}
    if refusal is not None:
        invocation["toolExecutionNotifications"] = [
            {"level": "error", "message": {"text": refusal}}
        ]
    driver = {"name": tool, "version": version, "rules": [_rule(rule) for rule in rules]}
    run: dict[str, Any] = {"tool": {"driver": driver}, "invocations": [invocation]}
    if artifacts:
        run["artifacts"] = [{"location": {"uri": artifact}} for artifact in artifacts]
    run["results"] = [_result(result, order.index(result.rule), artifacts) for result in results]
    run["properties"] = dict(properties)
    told = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(told), indent=1)


def _rule(rule: Rule) -> dict[str, Any]:
    told: dict[str, Any] = {"id": rule.id, "shortDescription": {"text": rule.text}}
    if rule.level is not None:
        told["defaultConfiguration"] = {"level": rule.level}
    return told


def _result(result: Result, rule: int, artifacts: Sequence[str]) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if result.artifact is not None:
        artifact: dict[str, Any] = {"uri": result.artifact}
        if result.artifact in artifacts:
            artifact["index"] = artifacts.index(result.artifact)
        location["physicalLocation"] = {"artifactLocation": artifact}
    if result.place is not None:
        location["logicalLocations"] = [{"fullyQualifiedName": result.place}]
    told: dict[str, Any] = {"ruleId": result.rule, "ruleIndex": rule}
    if result.kind is not None:
        told["kind"] = result.kind
    told |= {"level": result.level, "message": {"text": result.message}}
    if location:
        told["locations"] = [location]
    if result.properties:
        told["properties"] = dict(result.properties)
    return told
