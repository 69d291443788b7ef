"""Kubernetes audit logs (audit.k8s.io/v1), one event a line.

https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/

The API server sees doors, not bytes: a secret that was read, a shell opened in a pod, a port
forwarded. What then flowed through is in no such log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from tidegate.audit.event import Action, Event
from tidegate.audit.reader import UnreadableError, seconds_of
from tidegate.audit.records import Record, json_records


class _User(msgspec.Struct, gc=False):
    username: str = ""
    uid: str = ""
    extra: dict[str, Any] | None = None


class _Object(msgspec.Struct, gc=False):
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class _Status(msgspec.Struct, gc=False):
    code: int = 0


class _Entry(msgspec.Struct, gc=False):
    auditID: str
    stage: str
    verb: str
    stageTimestamp: datetime | None = None
    requestReceivedTimestamp: datetime | None = None
    user: _User | None = None
    sourceIPs: list[str] | None = None
    userAgent: str = ""
    objectRef: _Object | None = None
    requestURI: str = ""
    responseStatus: _Status | None = None


_DOORS: Final = frozenset({"exec", "attach", "portforward", "proxy", "ephemeralcontainers"})
_VERBS: Final = {
    "get": Action.READ,
    "list": Action.LIST,
    "watch": Action.LIST,
    "create": Action.WRITE,
    "update": Action.WRITE,
    "patch": Action.WRITE,
    "delete": Action.DELETE,
    "deletecollection": Action.DELETE,
}
_SHARES: Final = frozenset({"rolebindings", "clusterrolebindings", "roles", "clusterroles"})
_LOGGING: Final = frozenset({"auditsinks", "auditregistrations"})
_entry: Final = msgspec.json.Decoder(_Entry)


class Kubernetes:
    """See the module."""

    kind = "kubernetes"
    unit = "record"

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """One record an event."""
        return json_records(lines)

    def parse(self, raw: bytes) -> Event | None:
        """None for all stages but the last: a request is one event. A door counts when it opens,
        since its last stage comes only when it is shut."""
        entry = _entry.decode(raw)
        moment = entry.stageTimestamp or entry.requestReceivedTimestamp
        if moment is None:
            raise UnreadableError("an audit event without a time")
        place = entry.objectRef or _NO_OBJECT
        door = place.subresource in _DOORS
        final = entry.stage in ("ResponseComplete", "Panic")
        if (door and entry.stage != "ResponseStarted" and not _refused(entry)) or (
            not door and not final
        ):
            return None
        user = entry.user or _NOBODY
        return Event(
            time=seconds_of(moment),
            stream="kubernetes audit",
            action=_action(entry, place, door),
            operation=f"k8s:{entry.verb}:{place.resource}{f'/{place.subresource}' * door}",
            ok=not _refused(entry) and entry.stage != "Panic",
            principal=user.username or "unknown",
            target=_target(place),
            credential=_credential(user),
            address=(entry.sourceIPs or [""])[0],
            agent=entry.userAgent,
            request=entry.auditID,
        )


def _refused(entry: _Entry) -> bool:
    return entry.responseStatus is not None and entry.responseStatus.code >= 400


def _action(entry: _Entry, place: _Object, door: bool) -> Action:
    if door:
        return Action.EXECUTE
    action = _VERBS.get(entry.verb, Action.OTHER)
    changes = action in (Action.WRITE, Action.DELETE)
    if place.resource in _LOGGING and changes:
        return Action.LOGGING_OFF
    if place.resource == "secrets" and action in (Action.READ, Action.LIST):
        # A list of secrets carries them all.
        return Action.DECRYPT
    if place.resource in _SHARES and action is Action.WRITE:
        return Action.SHARE
    return Action.OTHER if action is Action.READ else action


def _target(place: _Object) -> str:
    parts = (place.namespace, place.resource, place.name)
    return "k8s://" + "/".join(part for part in parts if part) if place.resource else ""


def _credential(user: _User) -> str:
    found = (user.extra or {}).get("authentication.kubernetes.io/credential-id")
    return str(found[0]) if isinstance(found, list) and found else ""


_NOBODY: Final = _User()
_NO_OBJECT: Final = _Object()
