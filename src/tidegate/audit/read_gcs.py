"""Google Cloud Audit Logs: data access to Cloud Storage, Cloud KMS, and changes of logging.

https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog

The logs say that an object was read, never how much of it. Copies and composes are two entries, a
read and a write. Reads with signed URLs carry the signer's name, so they cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from tidegate.audit.event import Action, Event
from tidegate.audit.reader import UnreadableError, seconds_of
from tidegate.audit.records import Record, json_records


class _Who(msgspec.Struct, gc=False):
    principalEmail: str = ""
    principalSubject: str = ""
    serviceAccountKeyName: str = ""


class _From(msgspec.Struct, gc=False):
    callerIp: str = ""
    callerSuppliedUserAgent: str = ""


class _Status(msgspec.Struct, gc=False):
    code: int = 0


class _Payload(msgspec.Struct, gc=False):
    methodName: str
    serviceName: str = ""
    resourceName: str = ""
    authenticationInfo: _Who | None = None
    requestMetadata: _From | None = None
    status: _Status | None = None
    serviceData: msgspec.Raw = msgspec.Raw(b"null")


class _Resource(msgspec.Struct, gc=False):
    type: str = ""
    labels: dict[str, Any] | None = None


class _Entry(msgspec.Struct, gc=False):
    protoPayload: _Payload | None = None
    timestamp: datetime | None = None
    insertId: str = ""
    logName: str = ""
    resource: _Resource | None = None


_ACTIONS: Final = {
    "storage.objects.get": Action.READ,
    "storage.objects.list": Action.LIST,
    "storage.objects.create": Action.WRITE,
    "storage.objects.update": Action.WRITE,
    "storage.objects.compose": Action.WRITE,
    "storage.objects.delete": Action.DELETE,
    "storage.objects.rewrite": Action.COPY,
    "storage.objects.copy": Action.COPY,
    "storage.setIamPermissions": Action.SHARE,
    "storage.objects.setIamPolicy": Action.SHARE,
    "storage.buckets.list": Action.LIST,
    "storage.buckets.get": Action.LIST,
    "storage.getIamPermissions": Action.LIST,
    "storage.buckets.update": Action.OTHER,
    "storage.hmacKeys.create": Action.SHARE,
    "Decrypt": Action.DECRYPT,
    "AsymmetricDecrypt": Action.DECRYPT,
    "RawDecrypt": Action.DECRYPT,
    "Encrypt": Action.WRAP,
    "google.logging.v2.ConfigServiceV2.DeleteSink": Action.LOGGING_OFF,
    "google.logging.v2.ConfigServiceV2.UpdateSink": Action.LOGGING_OFF,
    "google.logging.v2.ConfigServiceV2.DeleteBucket": Action.LOGGING_OFF,
    "google.logging.v2.ConfigServiceV2.CreateExclusion": Action.LOGGING_OFF,
    "google.storagetransfer.v1.StorageTransferService.CreateTransferJob": Action.SHARE,
}
_entry: Final = msgspec.json.Decoder(_Entry)


class CloudStorage:
    """See the module."""

    kind = "gcs"
    unit = "record"

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """One record a log entry."""
        return json_records(lines)

    def parse(self, raw: bytes) -> Event:
        """Raises UnreadableError for entries that are no audit logs."""
        entry = _entry.decode(raw)
        payload = entry.protoPayload
        if payload is None or entry.timestamp is None:
            raise UnreadableError("a log entry without protoPayload or timestamp")
        who = payload.authenticationInfo or _NOBODY
        origin = payload.requestMetadata or _NOWHERE
        action = _action(payload)
        labels = (entry.resource.labels if entry.resource else None) or {}
        return Event(
            time=seconds_of(entry.timestamp),
            stream=f"gcp {_log(entry.logName)}",
            action=action,
            operation=f"gcp:{payload.methodName}",
            ok=payload.status is None or payload.status.code == 0,
            principal=who.principalEmail or who.principalSubject or "anonymous",
            target=_target(payload),
            credential=who.serviceAccountKeyName,
            address=origin.callerIp,
            agent=origin.callerSuppliedUserAgent,
            owner=str(labels.get("project_id", "")),
            request=entry.insertId,
        )


def _action(payload: _Payload) -> Action:
    action = _ACTIONS.get(payload.methodName)
    if action is not None:
        return action
    if payload.methodName == "SetIamPolicy":
        # The policy of a project also says what is logged; a removed audit config is in the delta.
        removed = b'"auditConfigDeltas"' in bytes(payload.serviceData)
        return Action.LOGGING_OFF if removed else Action.SHARE
    return Action.UNKNOWN if payload.methodName.startswith("storage.objects.") else Action.OTHER


def _target(payload: _Payload) -> str:
    name = payload.resourceName
    if payload.serviceName == "cloudkms.googleapis.com":
        return f"kms:{name.partition('/cryptoKeyVersions/')[0]}"
    head, found, rest = name.partition("/buckets/")
    if not found or not head.startswith("projects/"):
        return name
    bucket, found, item = rest.partition("/objects/")
    return f"gs://{bucket}/{item}" if found else f"gs://{bucket}"


def _log(name: str) -> str:
    return "data access" if name.endswith("data_access") else "activity"


_NOBODY: Final = _Who()
_NOWHERE: Final = _From()
