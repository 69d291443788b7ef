"""OCSF 1.4 events of class 2004 (Detection Finding), as every part of Tidegate writes them.

https://schema.ocsf.io/1.4.0/classes/detection_finding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

from tidegate.units import Timestamp

CLASS: Final = 2004
_CATEGORY: Final = 2
_CREATE: Final = 1
_NEW: Final = 1


class Severity(IntEnum):
    """OCSF's `severity_id`, as far as we use it."""

    INFORMATIONAL = 1
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


def detection(
    *,
    time: Timestamp,
    severity: Severity,
    title: str,
    text: str,
    types: Sequence[str],
    analytic: str,
    version: str,
    identity: str,
    resources: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """One event. `identity`: what makes this finding this one; the same identity gives the same
    uid, so that a re-run updates and does not add. Callers may add fields of the class."""
    return {
        "activity_id": _CREATE,
        "activity_name": "Create",
        "category_uid": _CATEGORY,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + _CREATE,
        "time": int(time * 1000),
        "severity_id": int(severity),
        "severity": severity.name.capitalize(),
        "status_id": _NEW,
        "status": "New",
        "message": text,
        "metadata": {
            "version": "1.4.0",
            "product": {"name": "Tidegate", "vendor_name": "Tidegate", "version": version},
        },
        "finding_info": {
            "uid": hashlib.sha256(identity.encode()).hexdigest()[:32],
            "title": title,
            "desc": text,
            "types": list(types),
            "analytic": {"name": analytic, "type_id": 1, "type": "Rule"},
        },
        "resources": list(resources),
    }
