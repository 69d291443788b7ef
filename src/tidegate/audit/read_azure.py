"""Azure resource logs: storage (StorageRead, StorageWrite, StorageDelete), Key Vault, activity.

https://learn.microsoft.com/azure/storage/blobs/monitor-blob-storage-reference

The size of what was served is logged, the range is not. A shared access signature is a bearer's
right, like a presigned URL: its token's hash is the credential.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidegate.audit.event import UNKNOWN, Action, Event
from tidegate.audit.reader import UnreadableError, seconds_of, unquoted
from tidegate.audit.records import Record, json_records


class _Requester(msgspec.Struct, gc=False):
    objectId: str = ""
    upn: str = ""
    appId: str = ""


class _Identity(msgspec.Struct, gc=False):
    type: str = ""
    requester: _Requester | None = None
    tokenHash: str = ""


class _Properties(msgspec.Struct, gc=False):
    accountName: str = ""
    userAgentHeader: str = ""
    objectKey: str = ""
    responseBodySize: int | str = UNKNOWN
    destinationUri: str = ""
    sourceUri: str = ""
    clientInfo: str = ""
    id: str = ""


class _Entry(msgspec.Struct, gc=False):
    time: datetime | None = None
    category: str | None = None
    operationName: str = ""
    resourceId: str = ""
    statusCode: int | str | None = None
    resultType: str | None = None
    resultSignature: str | int | None = None
    callerIpAddress: str | None = None
    correlationId: str | None = None
    identity: msgspec.Raw = msgspec.Raw(b"null")
    properties: msgspec.Raw = msgspec.Raw(b"null")
    uri: str = ""


_ACTIONS: Final = {
    "GetBlob": Action.READ,
    "ReadFile": Action.READ,
    "GetFile": Action.READ,
    "QueryBlobContents": Action.READ,
    "GetBlobProperties": Action.LIST,
    "GetBlobMetadata": Action.LIST,
    "ListBlobs": Action.LIST,
    "ListContainers": Action.LIST,
    "GetBlockList": Action.LIST,
    "GetPathStatus": Action.LIST,
    "ListFilesystemDir": Action.LIST,
    "GetContainerProperties": Action.LIST,
    "GetBlobServiceProperties": Action.LIST,
    "PutBlob": Action.WRITE,
    "PutBlock": Action.WRITE,
    "PutBlockList": Action.WRITE,
    "AppendBlock": Action.WRITE,
    "DeleteBlob": Action.DELETE,
    "CopyBlob": Action.COPY,
    "CopyBlobFromURL": Action.COPY,
    "CopyBlobSource": Action.COPY,
    "PutBlobFromURL": Action.COPY,
    "PutBlockFromURL": Action.COPY,
    "SetContainerACL": Action.SHARE,
    "GetUserDelegationKey": Action.SHARE,
    "KeyUnwrap": Action.DECRYPT,
    "KeyDecrypt": Action.DECRYPT,
    "SecretGet": Action.DECRYPT,
    "KeyWrap": Action.WRAP,
    "KeyEncrypt": Action.WRAP,
    "MICROSOFT.INSIGHTS/DIAGNOSTICSETTINGS/DELETE": Action.LOGGING_OFF,
    "MICROSOFT.INSIGHTS/DIAGNOSTICSETTINGS/WRITE": Action.LOGGING_OFF,
    "MICROSOFT.STORAGE/STORAGEACCOUNTS/LISTKEYS/ACTION": Action.SHARE,
    "MICROSOFT.STORAGE/STORAGEACCOUNTS/LISTACCOUNTSAS/ACTION": Action.SHARE,
    "MICROSOFT.STORAGE/STORAGEACCOUNTS/OBJECTREPLICATIONPOLICIES/WRITE": Action.SHARE,
}
_SIGNED: Final = frozenset({"SAS", "DelegationSas", "AccountSas", "ServiceSas"})
_entry: Final = msgspec.json.Decoder(_Entry)
_identity: Final = msgspec.json.Decoder(_Identity | str | None)
_properties: Final = msgspec.json.Decoder(_Properties | str | None)


class AzureStorage:
    """See the module."""

    kind = "azure"
    unit = "record"

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """One record a log entry."""
        return json_records(lines)

    def parse(self, raw: bytes) -> Event:
        """Raises UnreadableError for records without time or operation."""
        entry = _entry.decode(raw)
        if entry.time is None or not entry.operationName:
            raise UnreadableError("a record without time or operationName")
        known, told = _identity.decode(entry.identity), _properties.decode(entry.properties)
        identity = known if isinstance(known, _Identity) else _NOBODY
        properties = told if isinstance(told, _Properties) else _NOTHING
        action = _ACTIONS.get(entry.operationName) or _ACTIONS.get(
            entry.operationName.upper(), _other(entry)
        )
        size = str(properties.responseBodySize)
        return Event(
            time=seconds_of(entry.time),
            stream=f"azure {entry.category or 'activity'}",
            action=action,
            operation=f"azure:{entry.operationName}",
            ok=_ok(entry),
            principal=_principal(identity),
            target=_target(entry, properties, action),
            credential=identity.tokenHash,
            address=_address(entry.callerIpAddress or ""),
            agent=properties.userAgentHeader or properties.clientInfo,
            length=int(size) if action is Action.READ and size.isdecimal() else UNKNOWN,
            owner=properties.accountName,
            other=_blob(properties.destinationUri) if action is Action.COPY else "",
            request=entry.correlationId or "",
            presigned=identity.type in _SIGNED,
        )


def _ok(entry: _Entry) -> bool:
    status = entry.statusCode if entry.statusCode is not None else entry.resultSignature
    text = str(status) if status is not None else ""
    if text.isdecimal():
        return text[:1] in "23"
    return (entry.resultType or "Success").lower() in ("success", "succeeded", "start", "accept")


def _other(entry: _Entry) -> Action:
    return Action.UNKNOWN if entry.category == "StorageRead" else Action.OTHER


def _principal(identity: _Identity) -> str:
    who = identity.requester
    if who is not None and (who.upn or who.objectId or who.appId):
        return who.upn or who.objectId or f"app:{who.appId}"
    return identity.type.lower() or "unknown"


def _target(entry: _Entry, properties: _Properties, action: Action) -> str:
    if action in (Action.DECRYPT, Action.WRAP):
        return f"kms:{properties.id or entry.resourceId}"
    if action is Action.COPY and properties.sourceUri:
        return _blob(properties.sourceUri)
    key = properties.objectKey.strip('"')
    if key:
        return f"az://{unquoted(key.lstrip('/'))}"
    return _blob(entry.uri) if entry.uri else entry.resourceId


def _blob(uri: str) -> str:
    """`https://ACCOUNT.blob.core.windows.net:443/C/B?sig=…` -> `az://ACCOUNT/C/B`."""
    parts = urlsplit(uri)
    account = (parts.hostname or "").partition(".")[0]
    return f"az://{account}{unquoted(parts.path)}" if account else ""


def _address(text: str) -> str:
    """Without the port that storage logs put behind it."""
    return text.rpartition(":")[0] if text.count(":") == 1 else text


_NOBODY: Final = _Identity()
_NOTHING: Final = _Properties()
