"""One small guarded model, events about it, and a journal of grants, for the audit's tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from tidegate.audit.conclude import Report, Source, conclude
from tidegate.audit.event import Action, Event, Place
from tidegate.audit.examine import Examiner, Settings
from tidegate.audit.findings import Finding, Kind
from tidegate.audit.grants import Journal, read_journal
from tidegate.audit.models import Guarded, guarded, table_of

DAY = 86_400.0
SIZE = 1_000_000
MODELS: dict[str, Any] = {
    "brokers": ["broker"],
    "networks": ["10.0.0.0/8"],
    "model": [
        {
            "name": "m",
            "at": ["s3://w/m", "gs://copy/m/"],
            "keys": ["arn:key"],
            "shards": [{"name": str(number), "size": SIZE} for number in range(4)],
        }
    ],
    "identity": [{"name": "host", "known_as": ["arn:role/host"]}],
}
GRANT = "a" * 32


def known() -> Guarded:
    """One model of four shards in two stores."""
    return guarded(table_of(MODELS))


def read(who: str, time: float, shard: int = 0, **changes: Any) -> Event:
    """One read of a whole shard."""
    made = Event(
        time=time, stream="cloudtrail s3 data", action=Action.READ, operation="s3:GetObject",
        ok=True, principal=who, target=f"s3://w/m/{shard}", offset=0, length=SIZE,
        address="10.0.0.1", agent="agent/1",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def entries(*does: tuple[float, dict[str, Any]]) -> Iterator[tuple[Place, bytes]]:
    """Lines of a journal."""
    for n, (time, told) in enumerate(does):
        entry = {"n": n, "time": int(1000 * time), "wall": 0, "does": told}
        yield Place(1, n + 1), json.dumps(entry).encode()


def asked(
    time: float, requester: str = "rosa", grant: str = GRANT, **changes: Any
) -> tuple[float, dict[str, Any]]:
    """A request for the first two shards."""
    request = {"id": grant, "requester": requester, "model": "m", "shards": [0, 1], "host": "host",
               "seconds": 9, "break_glass": False, "why": "test", **changes}  # fmt: skip
    return time, {"kind": "request", "request": request}


def approved(
    time: float, by: str, grant: str = GRANT, team: str = "t"
) -> tuple[float, dict[str, Any]]:
    """An approval."""
    return time, {"kind": "approve", "grant": grant, "by": by, "team": team}


def released(time: float, until: float, grant: str = GRANT) -> tuple[float, dict[str, Any]]:
    """A release."""
    return time, {"kind": "release", "grant": grant, "by": "rosa", "until": int(1000 * until)}


def journal(*does: tuple[float, dict[str, Any]]) -> Journal:
    """A journal of these entries."""
    return read_journal(entries(*does))


def report(
    *events: Event, grants: Journal | None = None, guards: Guarded | None = None, **settings: Any
) -> Report:
    """What an audit of these events comes to."""
    examiner = Examiner(known() if guards is None else guards, grants, Settings(**settings))
    for number, event in enumerate(events, 1):
        examiner.take(event, Place(0, number))
    return conclude(
        examiner, [Source("log", "events", "line"), Source("journal", "grants", "entry")]
    )


def kinds(made: Report) -> set[str]:
    """The kinds of its findings."""
    return {finding.kind for finding in made.findings}


def one(made: Report, kind: Kind) -> Finding:
    """Its one finding of a kind."""
    (found,) = [finding for finding in made.findings if finding.kind is kind]
    return found


LEASED = (asked(0), approved(100, "anna"), released(1000, 5000))
