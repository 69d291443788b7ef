"""OpenBao's (and Vault's) audit device, JSON, one request or response a line.

https://openbao.org/docs/audit/

Values are hashed with the device's own key, so a token is known by its hash. Requests are skipped:
their responses say the same, and whether they succeeded. A request without a response, because the
server died, is therefore not seen; the gap it leaves is looked for elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from tidegate.audit.event import Action, Event
from tidegate.audit.reader import UnreadableError, seconds_of
from tidegate.audit.records import Record, json_records


class _Auth(msgspec.Struct, gc=False):
    display_name: str = ""
    entity_id: str = ""
    accessor: str = ""


class _Request(msgspec.Struct, gc=False):
    path: str
    operation: str = ""
    id: str = ""
    remote_address: str = ""
    mount_type: str = ""
    headers: dict[str, Any] | None = None


class _Entry(msgspec.Struct, gc=False):
    time: datetime
    type: str
    request: _Request
    auth: _Auth | None = None
    error: str = ""


_ACTIONS: Final = {
    "decrypt": Action.DECRYPT,
    "datakey": Action.WRAP,
    "encrypt": Action.WRAP,
    "rewrap": Action.WRAP,
    "export": Action.DECRYPT,
    "backup": Action.DECRYPT,
}
_entry: Final = msgspec.json.Decoder(_Entry)


class OpenBao:
    """See the module."""

    kind = "openbao"
    unit = "record"

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """One record an entry."""
        return json_records(lines)

    def parse(self, raw: bytes) -> Event | None:
        """None for requests. Raises UnreadableError for a type that is neither."""
        entry = _entry.decode(raw)
        if entry.type == "request":
            return None
        if entry.type != "response":
            raise UnreadableError("an entry that is neither request nor response")
        auth, request = entry.auth or _NOBODY, entry.request
        action, target = _what(request)
        agents = (request.headers or {}).get("user-agent")
        return Event(
            time=seconds_of(entry.time),
            stream="openbao audit",
            action=action,
            operation=f"bao:{request.operation}",
            ok=not entry.error,
            principal=auth.display_name or auth.entity_id or "unauthenticated",
            target=target,
            credential=auth.accessor,
            address=request.remote_address,
            agent=str(agents[0]) if isinstance(agents, list) and agents else "",
            request=request.id,
        )


def _what(request: _Request) -> tuple[Action, str]:
    parts = request.path.split("/")
    changes = request.operation in ("update", "create", "delete", "patch")
    if request.path.startswith("sys/audit/") and changes:
        off = request.operation == "delete"
        return Action.LOGGING_OFF if off else Action.LOGGING_ON, f"bao:{request.path}"
    if request.mount_type == "transit" or parts[0] == "transit":
        for place, part in enumerate(parts[:-1]):
            if part in _ACTIONS:
                # transit/export/TYPE/NAME has the name one place later than the others.
                name = (
                    parts[place + 2]
                    if part == "export" and len(parts) > place + 2
                    else parts[place + 1]
                )
                return _ACTIONS[part], f"kms:{'/'.join(parts[:place])}/{name}"
    if request.path in ("sys/wrapping/unwrap", "sys/wrapping/rewrap"):
        return Action.DECRYPT, f"bao:{request.path}"
    if request.operation == "read" and not request.path.startswith(("sys/", "auth/")):
        return Action.DECRYPT, f"bao:{request.path}"
    if request.path.startswith(("sys/policies/", "sys/policy/")) and changes:
        return Action.SHARE, f"bao:{request.path}"
    return Action.LIST if request.operation == "list" else Action.OTHER, f"bao:{request.path}"


_NOBODY: Final = _Auth()
