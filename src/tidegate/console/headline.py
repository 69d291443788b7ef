"""What a hurried person reads first: one mood and one sentence, from everything known. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from tidegate.console.picture import (
    Budget,
    Gate,
    Grants,
    Headline,
    Link,
    Missing,
    Mood,
    Verification,
)

Part: TypeAlias = Budget | Link | Verification | Gate | Grants | Missing

_ORDER: Final = (Mood.BAD, Mood.WATCH, Mood.UNKNOWN, Mood.GOOD)
_SAYS: Final = {
    Mood.BAD: "Something is wrong",
    Mood.WATCH: "Look at this",
    Mood.UNKNOWN: "Not everything is known",
    Mood.GOOD: "Nothing is known to be wrong",
}
SOON_S: Final = 3600.0
"""A budget that is used up within an hour at the present speed is worth a look."""


def headline(parts: Mapping[str, Part], alerts: Mapping[str, int]) -> Headline:
    """The worst of what the parts and the open alerts say, and all that is as bad or worse than
    unknown, worst first. A part whose source is not set up says nothing."""
    told = [*_of_alerts(alerts)]
    for name, part in parts.items():
        told += _of_part(name, part)
    told.sort(key=lambda one: _ORDER.index(one[0]))
    mood = told[0][0] if told else Mood.GOOD
    return Headline(mood=mood, says=_SAYS[mood], because=tuple(says for _, says in told))


def _of_alerts(alerts: Mapping[str, int]) -> Iterator[tuple[Mood, str]]:
    for severity, mood in (("critical", Mood.BAD), ("high", Mood.BAD), ("medium", Mood.WATCH)):
        count = alerts.get(severity, 0)
        if count:
            yield mood, f"{count} {severity} alert{'s' if count > 1 else ''}"


def _of_part(name: str, part: Part) -> Iterator[tuple[Mood, str]]:
    match part:
        case Missing(reason=reason, wanted=True):
            yield Mood.UNKNOWN, f"{name}: {reason}"
        case Budget():
            yield from _of_budget(part)
        case Link(edges_up=edges):
            for edge in (edge for edge, up in edges.items() if not up):
                yield Mood.BAD, f"the link over {edge} is down"
        case Verification(outcome="fail", reason=reason):
            yield Mood.BAD, f"verification failed: {reason}"
        case Verification(outcome="cannot_verify", reason=reason):
            yield Mood.UNKNOWN, f"cannot verify: {reason}"
        case Gate():
            yield from _of_gate(part)
        case Grants(waiting=waiting):
            for request in (request for request in waiting if request.break_glass):
                yield Mood.BAD, f"{request.who} broke the glass for {request.shards}"
        case _:
            return


def _of_budget(budget: Budget) -> Iterator[tuple[Mood, str]]:
    for one in budget.accounts:
        if one.left == 0:
            yield Mood.BAD, f"the budget of {one.scope} is used up"
        elif one.empty_in_s is not None and one.empty_in_s < SOON_S:
            yield Mood.WATCH, f"the budget of {one.scope} lasts {one.empty_in_s / 60:.0f} minutes"


def _of_gate(gate: Gate) -> Iterator[tuple[Mood, str]]:
    if not gate.open:
        yield Mood.BAD, f"the gate is shut: {gate.reason}"
    liars = [meter.name for meter in gate.meters if meter.agrees is False]
    if liars:
        yield Mood.BAD, f"meters disagree: {', '.join(liars)}"
    blind = [meter.name for meter in gate.meters if meter.counted is None]
    if blind:
        yield Mood.UNKNOWN, f"meters that cannot be read: {', '.join(blind)}"
