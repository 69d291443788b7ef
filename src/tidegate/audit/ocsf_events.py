"""Events as OCSF 1.4 class 6003 (API Activity), one JSON object a line.

https://schema.ocsf.io/1.4.0/classes/api_activity. What the class has no field for is `unmapped`.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final

import msgspec

from tidegate.audit.event import Action, Event
from tidegate.audit.read_events import API_ACTIVITY

_CATEGORY: Final = 6
_OTHER: Final = 99
_ACTIVITIES: Final = {
    Action.READ: (2, "Read"),
    Action.OPEN: (2, "Read"),
    Action.LIST: (2, "Read"),
    Action.DECRYPT: (2, "Read"),
    Action.COPY: (1, "Create"),
    Action.WRITE: (1, "Create"),
    Action.WRAP: (1, "Create"),
    Action.SHARE: (3, "Update"),
    Action.LOGGING_OFF: (3, "Update"),
    Action.LOGGING_ON: (3, "Update"),
    Action.DELETE: (4, "Delete"),
}
_encoder: Final = msgspec.json.Encoder()


def line_of(event: Event, version: str) -> bytes:
    """One event as a line without its end. `version`: Tidegate's."""
    activity, name = _ACTIVITIES.get(event.action, (_OTHER, "Other"))
    told: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": name,
        "category_uid": _CATEGORY,
        "category_name": "Application Activity",
        "class_uid": API_ACTIVITY,
        "class_name": "API Activity",
        "type_uid": API_ACTIVITY * 100 + activity,
        "time": round(event.time * 1000),
        "severity_id": 1,
        "status_id": 1 if event.ok else 2,
        "status": "Success" if event.ok else "Failure",
        "metadata": {
            "version": "1.4.0",
            "product": {"name": "Tidegate", "vendor_name": "Tidegate", "version": version},
            "log_name": event.stream,
        },
        "actor": {
            "user": {
                "name": event.principal,
                "account": {"uid": event.account},
                "credential_uid": event.credential,
            }
        },
        "api": {"operation": event.operation, "request": {"uid": event.request}},
        "src_endpoint": _endpoint(event.address),
        "resources": [{"name": event.target}] if event.target else [],
        "unmapped": {
            "stream": event.stream,
            "action": event.action.name.lower(),
            "offset": event.offset,
            "length": event.length,
            "owner": event.owner,
            "other": event.other,
            "presigned": event.presigned,
        },
    }
    if event.agent:
        told["http_request"] = {"user_agent": event.agent}
    return _encoder.encode(told)


def _endpoint(address: str) -> dict[str, str]:
    try:
        return {"ip": str(ip_address(address))}
    except ValueError:
        # A service calls from a name (ec2.amazonaws.com), and logs may have none.
        return {"name": address or "unknown"}
