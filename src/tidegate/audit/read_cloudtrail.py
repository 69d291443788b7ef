"""AWS CloudTrail: management events, and data events of S3 and KMS.

https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html

Files as AWS delivers them (`{"Records": [...]}`), arrays, and JSON lines, also as log shippers
rewrite them (`@timestamp` for `eventTime`). CloudTrail logs how many bytes S3 served and not which:
the Range header is in no record. Only part numbers and the range of a copy are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

import msgspec

from tidegate.audit.event import UNKNOWN, Action, Event
from tidegate.audit.reader import (
    UnreadableError,
    plain_role,
    role_of,
    seconds_of,
    span_of,
    unquoted,
)
from tidegate.audit.records import Record, json_records


class _Issuer(msgspec.Struct, gc=False):
    arn: str = ""


class _Session(msgspec.Struct, gc=False):
    sessionIssuer: _Issuer | None = None


class _Identity(msgspec.Struct, gc=False):
    type: str = ""
    arn: str = ""
    principalId: str = ""
    accountId: str = ""
    accessKeyId: str = ""
    invokedBy: str = ""
    sessionContext: _Session | None = None


class _Resource(msgspec.Struct, gc=False):
    ARN: str = ""
    accountId: str = ""
    type: str = ""


class _More(msgspec.Struct, gc=False):
    bytesTransferredOut: float = -1.0
    AuthenticationMethod: str = ""


class _Caller(msgspec.Struct, gc=False):
    """Who calls, where an ARN says it all."""

    arn: str = ""
    accountId: str = ""
    accessKeyId: str = ""


class _Owned(msgspec.Struct, gc=False):
    accountId: str = ""


class _Common(msgspec.Struct, gc=False):
    eventSource: str
    eventName: str
    eventTime: datetime | None = None
    shipped: datetime | None = msgspec.field(name="@timestamp", default=None)
    sourceIPAddress: str = ""
    userAgent: str | None = None
    errorCode: str | None = None
    requestID: str | None = None
    recipientAccountId: str = ""
    managementEvent: bool | None = None
    eventCategory: str = ""


class _Entry(_Common, gc=False):
    userIdentity: _Identity | None = None
    resources: list[_Resource] | None = None
    requestParameters: msgspec.Raw = msgspec.Raw(b"null")
    additionalEventData: msgspec.Raw = msgspec.Raw(b"null")


class _S3(msgspec.Struct, gc=False):
    bucketName: str = ""
    key: str = ""
    copied: str = msgspec.field(name="x-amz-copy-source", default="")
    copied_range: str = msgspec.field(name="x-amz-copy-source-range", default="")
    Range: str = ""


class _S3Entry(_Common, gc=False):
    """Most records are S3's, whose parameters have a known shape: what is needed and no more."""

    userIdentity: _Caller | None = None
    resources: list[_Owned] | None = None
    requestParameters: _S3 | None = None
    additionalEventData: _More | None = None


_READ: Final = Action.READ
_S3_ACTIONS: Final = {
    "GetObject": _READ,
    "SelectObjectContent": _READ,
    "GetObjectTorrent": _READ,
    "HeadObject": Action.LIST,
    "ListObjects": Action.LIST,
    "ListObjectsV2": Action.LIST,
    "ListObjectVersions": Action.LIST,
    "ListBuckets": Action.LIST,
    "ListParts": Action.LIST,
    "GetObjectAcl": Action.LIST,
    "GetObjectTagging": Action.LIST,
    "GetObjectAttributes": Action.LIST,
    "PutObject": Action.WRITE,
    "UploadPart": Action.WRITE,
    "CreateMultipartUpload": Action.WRITE,
    "CompleteMultipartUpload": Action.WRITE,
    "AbortMultipartUpload": Action.WRITE,
    "PostObject": Action.WRITE,
    "RestoreObject": Action.WRITE,
    "DeleteObject": Action.DELETE,
    "DeleteObjects": Action.DELETE,
    "CopyObject": Action.COPY,
    "UploadPartCopy": Action.COPY,
    "PutBucketReplication": Action.SHARE,
    "PutBucketPolicy": Action.SHARE,
    "PutBucketAcl": Action.SHARE,
    "PutObjectAcl": Action.SHARE,
    "PutBucketOwnershipControls": Action.SHARE,
    "DeleteBucketPublicAccessBlock": Action.SHARE,
    "DeletePublicAccessBlock": Action.SHARE,
    "CreateAccessPoint": Action.SHARE,
    "CreateMultiRegionAccessPoint": Action.SHARE,
    "CreateJob": Action.SHARE,
    "PutBucketInventoryConfiguration": Action.SHARE,
    "PutBucketLogging": Action.OTHER,
}
_ELSEWHERE: Final = {
    ("kms.amazonaws.com", "Decrypt"): Action.DECRYPT,
    ("kms.amazonaws.com", "ReEncrypt"): Action.DECRYPT,
    ("kms.amazonaws.com", "GenerateDataKey"): Action.WRAP,
    ("kms.amazonaws.com", "GenerateDataKeyWithoutPlaintext"): Action.WRAP,
    ("kms.amazonaws.com", "Encrypt"): Action.WRAP,
    ("kms.amazonaws.com", "CreateGrant"): Action.SHARE,
    ("kms.amazonaws.com", "PutKeyPolicy"): Action.SHARE,
    ("cloudtrail.amazonaws.com", "StopLogging"): Action.LOGGING_OFF,
    ("cloudtrail.amazonaws.com", "DeleteTrail"): Action.LOGGING_OFF,
    ("cloudtrail.amazonaws.com", "PutEventSelectors"): Action.LOGGING_OFF,
    ("cloudtrail.amazonaws.com", "UpdateTrail"): Action.LOGGING_OFF,
    ("cloudtrail.amazonaws.com", "DeleteEventDataStore"): Action.LOGGING_OFF,
    ("cloudtrail.amazonaws.com", "StopEventDataStoreIngestion"): Action.LOGGING_OFF,
    ("cloudtrail.amazonaws.com", "StartLogging"): Action.LOGGING_ON,
    ("cloudtrail.amazonaws.com", "CreateTrail"): Action.LOGGING_ON,
    ("ec2.amazonaws.com", "ModifySnapshotAttribute"): Action.SHARE,
    ("ec2.amazonaws.com", "ModifyImageAttribute"): Action.SHARE,
    ("rds.amazonaws.com", "ModifyDBSnapshotAttribute"): Action.SHARE,
    ("ec2.amazonaws.com", "DeleteFlowLogs"): Action.LOGGING_OFF,
    ("route53resolver.amazonaws.com", "DeleteResolverQueryLogConfig"): Action.LOGGING_OFF,
    ("logs.amazonaws.com", "DeleteLogGroup"): Action.LOGGING_OFF,
    ("guardduty.amazonaws.com", "DeleteDetector"): Action.LOGGING_OFF,
    ("datasync.amazonaws.com", "CreateTask"): Action.SHARE,
}
_REMOVED_CHECKS: Final = frozenset({"DeleteBucketLogging"})
_S3_SOURCES: Final = frozenset({"s3.amazonaws.com", "s3express.amazonaws.com"})
_S3_STREAM: Final = "cloudtrail s3 data"
_SIGNED: Final = "QueryString"
_MOST_ROLES: Final = 65_536
_MANAGEMENT: Final = "cloudtrail management"
_DATA: Final = "cloudtrail other data"

_entry: Final = msgspec.json.Decoder(_Entry)
_s3_entry: Final = msgspec.json.Decoder(_S3Entry)
_s3: Final = msgspec.json.Decoder(_S3 | None)
_more: Final = msgspec.json.Decoder(_More | None)
_any: Final = msgspec.json.Decoder(dict[str, object] | None)


class CloudTrail:
    """See the module. Remembers the roles of sessions, which read again and again."""

    kind = "cloudtrail"
    unit = "record"

    def __init__(self) -> None:
        self._roles: dict[str, str] = {}

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """One record an event."""
        return json_records(lines)

    def parse(self, raw: bytes) -> Event:
        """Raises UnreadableError where a record has no time."""
        entry, found = _decoded(raw)
        moment = entry.eventTime or entry.shipped
        if moment is None:
            raise UnreadableError("a record without eventTime")
        identity = entry.userIdentity or _NOBODY
        arn = identity.arn
        principal = self._roles.get(arn)
        if principal is None:
            principal = self._remembered(arn) if arn else _nameless(raw)
        action, target, offset, length, other, presigned, stream = found
        owner = ""
        for resource in entry.resources or ():
            owner = resource.accountId or owner
        return Event(
            time=seconds_of(moment),
            stream=stream,
            action=action,
            operation=f"{entry.eventSource.partition('.')[0]}:{entry.eventName}",
            ok=entry.errorCode is None,
            principal=principal,
            target=target,
            credential=identity.accessKeyId,
            address=entry.sourceIPAddress,
            agent=entry.userAgent or "",
            offset=offset,
            length=length,
            account=identity.accountId,
            owner=owner or entry.recipientAccountId,
            other=other,
            request=entry.requestID or "",
            presigned=presigned,
        )

    def _remembered(self, arn: str) -> str:
        if len(self._roles) >= _MOST_ROLES:
            self._roles.clear()
        principal = self._roles[arn] = plain_role(role_of(arn))
        return principal


def _decoded(raw: bytes) -> tuple[_Entry | _S3Entry, _Found]:
    """The record, and what it did."""
    if b's3.amazonaws.com"' in raw:
        try:
            whole = _s3_entry.decode(raw)
        except msgspec.ValidationError:
            whole = None
        if whole is not None and whole.eventSource in _S3_SOURCES:
            asked = whole.requestParameters or _NOTHING_ASKED
            return whole, _of_s3(whole, asked, whole.additionalEventData or _NOTHING_MORE)
    entry = _entry.decode(raw)
    if entry.eventSource not in _S3_SOURCES:
        return entry, _of_others(entry)
    asked = _s3.decode(entry.requestParameters) or _NOTHING_ASKED
    return entry, _of_s3(entry, asked, _more.decode(entry.additionalEventData) or _NOTHING_MORE)


_Found = tuple[Action, str, int, int, str, bool, str]


def _of_s3(entry: _Common, asked: _S3, more: _More) -> _Found:
    action = _S3_ACTIONS.get(entry.eventName, Action.UNKNOWN)
    data = entry.eventCategory == "Data" or entry.managementEvent is False
    if action is _READ and data and not asked.Range:
        length, presigned = int(more.bytesTransferredOut), more.AuthenticationMethod == _SIGNED
        target = f"s3://{asked.bucketName}/{asked.key}"
        return _READ, target, UNKNOWN, length if length >= 0 else UNKNOWN, "", presigned, _S3_STREAM
    if action is Action.UNKNOWN and not data:
        # Hundreds of settings can be read and written; those that share or copy are named above.
        reads = entry.eventName.startswith(("Get", "List", "Head", "Describe"))
        action = Action.LIST if reads else Action.OTHER
    if entry.eventName in _REMOVED_CHECKS:
        action = Action.LOGGING_OFF
    bucket = asked.bucketName
    target = f"s3://{bucket}/{asked.key}" if asked.key else f"s3://{bucket}" if bucket else ""
    offset = length = UNKNOWN
    other = ""
    if action is Action.COPY:
        other = target
        source = unquoted(asked.copied).lstrip("/").partition("?")[0]
        target = f"s3://{source}"
        offset, length = span_of(asked.copied_range)
    elif more.bytesTransferredOut >= 0:
        length = int(more.bytesTransferredOut)
        if asked.Range:
            offset, told = span_of(asked.Range)
            offset = offset if told == length else UNKNOWN
    if action is Action.SHARE and entry.eventName == "PutBucketReplication":
        other = "replication to another bucket"
    presigned = more.AuthenticationMethod == _SIGNED
    return action, target, offset, length, other, presigned, _S3_STREAM if data else _MANAGEMENT


def _of_others(entry: _Entry) -> _Found:
    action = _ELSEWHERE.get((entry.eventSource, entry.eventName), Action.OTHER)
    target = other = ""
    if action is not Action.OTHER:
        target, other = _key_or_name(entry)
        if entry.eventName == "PutEventSelectors" and _keeps_data_events(entry):
            action = Action.LOGGING_ON
    stream = _DATA if entry.eventCategory == "Data" else _MANAGEMENT
    return action, target, UNKNOWN, UNKNOWN, other, False, stream


def _keeps_data_events(entry: _Entry) -> bool:
    """Whether the selectors that are set log data events and all management events still."""
    text = bytes(entry.requestParameters)
    return b"AWS::S3::Object" in text and b'"includeManagementEvents":false' not in text.replace(
        b" ", b""
    )


def _key_or_name(entry: _Entry) -> tuple[str, str]:
    asked = _any.decode(entry.requestParameters) or {}
    if entry.eventSource == "kms.amazonaws.com":
        key = next((r.ARN for r in entry.resources or () if r.ARN), "") or str(
            asked.get("keyId", "")
        )
        context = asked.get("encryptionContext")
        told = context if isinstance(context, dict) else {}
        return f"kms:{key}", ",".join(f"{name}={told[name]}" for name in sorted(told))
    for name in ("name", "trailName", "snapshotId", "imageId", "dBSnapshotIdentifier"):
        if isinstance(asked.get(name), str):
            return str(asked[name]), ""
    return "", ""


def _nameless(raw: bytes) -> str:
    """Services and anonymous callers have no ARN; a session's issuer may have one."""
    identity = _entry.decode(raw).userIdentity or _NOBODY
    session = identity.sessionContext
    if session is not None and session.sessionIssuer is not None and session.sessionIssuer.arn:
        return plain_role(session.sessionIssuer.arn)
    if identity.invokedBy:
        return f"service:{identity.invokedBy}"
    return identity.principalId or identity.type or "unknown"


_NOBODY: Final = _Identity()
_NOTHING_ASKED: Final = _S3()
_NOTHING_MORE: Final = _More()
