"""Our own log: entries of the transparency log, and of the grants' journal by itself, as events.

`spec/log.md`, `spec/grants.md`. What is settled is read from the journal by `grants`; as events the
entries stand beside all others in exports and in the count of streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from tidegate.audit.event import Action, Event
from tidegate.audit.reader import UnreadableError
from tidegate.audit.records import Record, json_records


class _Asked(msgspec.Struct, gc=False):
    id: str = ""
    requester: str = ""
    model: str = ""
    host: str = ""


class _Does(msgspec.Struct, gc=False):
    kind: str
    grant: str = ""
    by: str = ""
    model: str = ""
    request: _Asked | None = None


class _Journal(msgspec.Struct, gc=False):
    n: int
    time: int
    does: _Does


class _Logged(msgspec.Struct, gc=False):
    kind: str
    time: int
    body: dict[str, Any]
    id: str = ""


_journal: Final = msgspec.json.Decoder(_Journal)
_logged: Final = msgspec.json.Decoder(_Logged)
_OF_GRANTS: Final = frozenset({"grant", "release"})
_MILLI: Final = 1000


class OwnLog:
    """See the module."""

    kind = "log"
    unit = "entry"

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """One record an entry."""
        return json_records(lines)

    def parse(self, raw: bytes) -> Event:
        """Raises UnreadableError for what is an entry of neither."""
        if raw.lstrip().startswith(b'{"n"'):
            return _of_grant(_journal.decode(raw))
        logged = _logged.decode(raw)
        if logged.kind in _OF_GRANTS:
            return _of_grant(msgspec.convert(logged.body, _Journal))
        if not logged.kind.isidentifier():
            raise UnreadableError("an entry of a kind that is no word")
        return _event(logged.time, logged.kind, "", "", logged.id)


def _of_grant(entry: _Journal) -> Event:
    does = entry.does
    asked = does.request or _NOTHING
    who = asked.requester or does.by
    target = asked.id or does.grant
    return _event(
        entry.time, does.kind, who, f"grant:{target}" if target else "", f"journal/{entry.n}",
        asked.model or does.model,
    )  # fmt: skip


def _event(time: int, kind: str, who: str, target: str, request: str, other: str = "") -> Event:
    return Event(
        time=time / _MILLI,
        stream="tidegate log",
        action=Action.OTHER,
        operation=f"tidegate:{kind}",
        ok=kind != "refuse",
        principal=who or "tidegate",
        target=target,
        other=other,
        request=request,
    )


_NOTHING: Final = _Asked()
