"""Sigma rules, in: a subset, evaluated on the records as their sources wrote them.

https://sigmahq.io/sigma-specification/

What the subset leaves out is refused when the rule is read, never skipped: correlations, global
actions, time frames, aggregations, keywords, unknown modifiers, and sources without a reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tidegate.audit.sigma_condition import Test, condition
from tidegate.audit.sigma_search import search
from tidegate.errors import ConfigError
from tidegate.record.sarif import Level

_SOURCES: Final[Mapping[tuple[str, str], str]] = {
    ("aws", "cloudtrail"): "cloudtrail",
    ("gcp", "gcp.audit"): "gcs",
    ("azure", "activitylogs"): "azure",
    ("azure", "storage"): "azure",
    ("kubernetes", "audit"): "kubernetes",
    ("linux", "auditd"): "auditd",
    ("openbao", "audit"): "openbao",
    ("vault", "audit"): "openbao",
}
_LEVELS: Final[Mapping[str, Level]] = {
    "informational": "note",
    "low": "note",
    "medium": "warning",
    "high": "error",
    "critical": "error",
}
_REFUSED: Final = ("correlation", "action", "rules")
_FIELD: Final = re.compile(r'([A-Za-z0-9_-]+)=("[^"]*"|\'[^\']*\'|\S+)')


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `kind`: the reader whose records it looks at."""

    id: str
    title: str
    level: Level
    kind: str
    test: Test


class Sigma:
    """Rules, by the kind of record they look at. A record is read whole only where one does."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_kind: dict[str, list[Rule]] = {}
        for rule in self.rules:
            self._by_kind.setdefault(rule.kind, []).append(rule)

    def matches(self, kind: str, raw: bytes) -> Iterator[Rule]:
        """The rules that this record meets."""
        rules = self._by_kind.get(kind)
        if rules:
            records = _auditd(raw) if kind == "auditd" else (msgspec.json.decode(raw),)
            for record in records:
                yield from (rule for rule in rules if rule.test(record))


def rule_of(told: Any, name: str) -> Rule:
    """One rule from its YAML document. Raises ConfigError for everything beyond the subset."""
    if not isinstance(told, Mapping):
        raise ConfigError(f"{name}: not a Sigma rule, but {type(told).__name__}")
    rule = f"{name} ({told.get('title', 'without a title')})"
    for part in _REFUSED:
        if part in told:
            raise ConfigError(
                f"{rule}: `{part}` is not supported; only rules for single events are"
            )
    kind = _kind(told.get("logsource"), rule)
    detection = told.get("detection")
    if not isinstance(detection, Mapping) or not detection.get("condition"):
        raise ConfigError(f"{rule}: no detection with a condition")
    if "timeframe" in detection:
        raise ConfigError(f"{rule}: `timeframe` is not supported; only single events are looked at")
    searches = {
        str(key): search(value, rule) for key, value in detection.items() if key != "condition"
    }
    conditions = detection["condition"]
    listed = conditions if isinstance(conditions, list) else [conditions]
    tests = [condition(str(text), searches, rule) for text in listed]
    level = _LEVELS.get(str(told.get("level", "medium")))
    if level is None:
        raise ConfigError(f"{rule}: there is no level {told['level']!r}")
    title = str(told.get("title", name))
    return Rule(str(told.get("id", title)), title, level, kind, _either(tests))


def _either(tests: list[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda record: any(test(record) for test in tests)


def _kind(source: Any, rule: str) -> str:
    if isinstance(source, Mapping):
        kind = _SOURCES.get((str(source.get("product")), str(source.get("service"))))
        if kind is not None:
            return kind
    known = ", ".join(f"{product}/{service}" for product, service in _SOURCES)
    raise ConfigError(f"{rule}: no reader for its logsource; known are {known}")


def _auditd(raw: bytes) -> Iterator[dict[str, str]]:
    """Each line of an event by itself, as Sigma's rules for auditd expect."""
    for line in raw.decode("utf-8", "replace").replace("\x1d", " ").splitlines():
        yield {name: value.strip("\"'") for name, value in _FIELD.findall(line)}
