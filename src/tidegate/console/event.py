"""One thing that happened, as it is kept and shown."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

SEVERITIES: Final = {1: "information", 2: "low", 3: "medium", 4: "high", 5: "critical"}
"""OCSF's `severity_id`, in words."""

Severity = Annotated[int, msgspec.Meta(ge=1, le=5)]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`uid`: the same event read again has the same one. `source`: where it was read. `subject`:
    whom or what it is about, a principal or a host, empty where nobody. `body`: the evidence, as
    the source wrote it; never text of a prompt or an answer.
    """

    uid: str
    time: float
    severity: Severity
    kind: str
    source: str
    subject: str
    title: str
    body: dict[str, Any] = {}


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its number in the store; `done`: an operator has dealt with it."""

    n: int
    event: Event
    done: bool


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: all that is given has to match. `before`: numbers below it only; `until`: what
    was kept up to about that time; `severity`: at least."""

    before: int | None = None
    until: float | None = None
    severity: Severity = 1
    kind: str = ""
    subject: str = ""
    source: str = ""
    open_only: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Events, newest first. `before`: where to go on, None where there is nothing older."""

    events: tuple[Kept, ...]
    before: int | None
