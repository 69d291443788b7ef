"""Which reader a file is for, by its first lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from tidegate.audit.read_auditd import Auditd
from tidegate.audit.read_azure import AzureStorage
from tidegate.audit.read_cloudtrail import CloudTrail
from tidegate.audit.read_events import OwnEvents
from tidegate.audit.read_gcs import CloudStorage
from tidegate.audit.read_kubernetes import Kubernetes
from tidegate.audit.read_log import OwnLog
from tidegate.audit.read_openbao import OpenBao
from tidegate.audit.read_s3 import S3Access
from tidegate.audit.reader import Reader

READERS: Final[Mapping[str, Callable[[], Reader]]] = MappingProxyType({
    "cloudtrail": CloudTrail,
    "s3-access": S3Access,
    "gcs": CloudStorage,
    "azure": AzureStorage,
    "auditd": Auditd,
    "kubernetes": Kubernetes,
    "openbao": OpenBao,
    "log": OwnLog,
    "events": OwnEvents,
})  # fmt: skip

HEAD: Final = 65_536
"""Bytes of a file by which its kind is told."""

_MARKS: Final = (
    # More particular marks first: an export of ours may quote any of the others.
    (b'"class_uid":6003', "events"),
    (b'"audit.k8s.io/', "kubernetes"),
    (b'"protoPayload"', "gcs"),
    (b'"eventSource"', "cloudtrail"),
    (b'"does":{"kind"', "log"),
    (b'"kind":"grant"', "log"),
    (b'"kind":"release"', "log"),
    (b'"kind":"upload"', "log"),
    (b'"kind":"verdict"', "log"),
    (b'"operationName"', "azure"),
    (b'"remote_address"', "openbao"),
    (b'"mount_type"', "openbao"),
    (b'"requestReceivedTimestamp"', "kubernetes"),
)


def kind_of(head: bytes) -> str | None:
    """The kind of log that begins so, or None. `head`: the first 65,536 bytes or fewer."""
    told = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if told[:1] in (b"{", b"["):
        plain = told.replace(b" ", b"")
        return next((kind for mark, kind in _MARKS if mark in plain), None)
    first = told.split(b"\n", 1)[0]
    if b"msg=audit(" in first and b"type=" in first:
        return "auditd"
    try:
        S3Access().parse(first)
    except ValueError:
        return None
    return "s3-access"
