"""Our own export of events, OCSF 6003, read back: for stores whose logs Tidegate has no reader for.

A proxy or a store that logs ranges (MinIO's audit log has the Range header) is converted into this,
and then coverage is exact. Fields beyond the class stand under `unmapped`, as `ocsf_events` writes
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from tidegate.audit.event import UNKNOWN, Action, Event
from tidegate.audit.reader import UnreadableError
from tidegate.audit.records import Record, json_records


class _Own(msgspec.Struct, gc=False):
    stream: str
    action: str
    offset: int = UNKNOWN
    length: int = UNKNOWN
    owner: str = ""
    other: str = ""
    presigned: bool = False


class _Account(msgspec.Struct, gc=False):
    uid: str = ""


class _User(msgspec.Struct, gc=False):
    name: str = ""
    account: _Account | None = None
    credential_uid: str = ""


class _Actor(msgspec.Struct, gc=False):
    user: _User


class _Named(msgspec.Struct, gc=False):
    name: str = ""


class _Uid(msgspec.Struct, gc=False):
    uid: str = ""


class _Endpoint(msgspec.Struct, gc=False):
    ip: str = ""
    name: str = ""


class _Api(msgspec.Struct, gc=False):
    operation: str
    request: _Uid | None = None


class _Request(msgspec.Struct, gc=False):
    user_agent: str = ""


class _Entry(msgspec.Struct, gc=False):
    class_uid: int
    time: int
    actor: _Actor
    api: _Api
    unmapped: _Own
    status_id: int = 1
    resources: list[_Named] | None = None
    src_endpoint: _Endpoint | None = None
    http_request: _Request | None = None


API_ACTIVITY: Final = 6003
_entry: Final = msgspec.json.Decoder(_Entry)
_BY_NAME: Final = {action.name.lower(): action for action in Action}


class OwnEvents:
    """See the module."""

    kind = "events"
    unit = "record"

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """One record an event."""
        return json_records(lines)

    def parse(self, raw: bytes) -> Event:
        """Raises UnreadableError for events of another class, or of an action there is not."""
        entry = _entry.decode(raw)
        own = entry.unmapped
        action = _BY_NAME.get(own.action)
        if entry.class_uid != API_ACTIVITY or action is None:
            raise UnreadableError("not an event as `tidegate audit --events` writes it")
        user, origin = entry.actor.user, entry.src_endpoint or _NOWHERE
        return Event(
            time=entry.time / 1000,
            stream=own.stream,
            action=action,
            operation=entry.api.operation,
            ok=entry.status_id == 1,
            principal=user.name,
            target=entry.resources[0].name if entry.resources else "",
            credential=user.credential_uid,
            address=origin.ip or origin.name,
            agent=entry.http_request.user_agent if entry.http_request else "",
            offset=own.offset,
            length=own.length,
            account=user.account.uid if user.account else "",
            owner=own.owner,
            other=own.other,
            request=entry.api.request.uid if entry.api.request else "",
            presigned=own.presigned,
        )


_NOWHERE: Final = _Endpoint()
