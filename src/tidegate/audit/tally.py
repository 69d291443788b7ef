"""Findings that happen again and again, counted by who and what instead of listed one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tidegate.audit.event import Place
from tidegate.audit.findings import Kind

MOST_KEYS: Final = 20_000
_FIRST: Final = 3


@dataclass(slots=True)
class Tally:
    """How often, from when to when, how many bytes, and where it stands first and last."""

    count: int = 0
    first: float = float("inf")
    last: float = float("-inf")
    size: int = 0
    places: list[Place] = field(default_factory=list)
    final: Place | None = None
    detail: dict[str, int] = field(default_factory=dict)

    def evidence(self) -> list[Place]:
        """The first few and the last."""
        return [*self.places, *([self.final] if self.final else [])]


Key = tuple[Kind, str, str]
"""The kind, who, and what it is about."""

_MOST_DETAILS: Final = 64


class Tallies:
    """All tallies, of at most 20,000 keys; what is beyond is counted by kind."""

    def __init__(self) -> None:
        self.of: dict[Key, Tally] = {}
        self.beyond: dict[Kind, int] = {}

    def add(
        self,
        kind: Kind,
        who: str,
        about: str,
        time: float,
        place: Place,
        size: int = 0,
        detail: str = "",
    ) -> None:
        """Count one. `detail`: what it was done with; the most frequent are told."""
        key = (kind, who, about)
        tally = self.of.get(key)
        if tally is None:
            if len(self.of) >= MOST_KEYS:
                self.beyond[kind] = self.beyond.get(kind, 0) + 1
                return
            tally = self.of[key] = Tally()
        tally.count += 1
        tally.size += size
        if time < tally.first:
            tally.first = time
        if time > tally.last:
            tally.last = time
        if len(tally.places) < _FIRST:
            tally.places.append(place)
        else:
            tally.final = place
        if detail and (detail in tally.detail or len(tally.detail) < _MOST_DETAILS):
            tally.detail[detail] = tally.detail.get(detail, 0) + 1
