"""Sigma rules, out: what a SIEM can look for on its own, made from the models file.

A rule looks at one event, so coverage, drips and accounts are not among them: those need
`tidegate audit`. What can be said of one event is: reads and decrypts by somebody unknown, copies
and shares of a model's place, doors into it, logging switched off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from tidegate.audit.models import Guarded, Model

_SHARES: Final = [
    "PutBucketReplication", "PutBucketPolicy", "PutBucketAcl", "PutObjectAcl", "CreateAccessPoint",
    "DeleteBucketPublicAccessBlock",
]  # fmt: skip
_OFF: Final = [
    "StopLogging", "DeleteTrail", "PutEventSelectors", "UpdateTrail", "DeleteEventDataStore",
]  # fmt: skip
_AWS: Final = {"product": "aws", "service": "cloudtrail"}
_GCP: Final = {"product": "gcp", "service": "gcp.audit"}
_K8S: Final = {"product": "kubernetes", "service": "audit"}


def rules_for(guarded: Guarded) -> Iterator[dict[str, Any]]:
    """The rules, as YAML documents to be."""
    yield _rule(
        "Audit trail switched off or cut down", "high", _AWS,
        {"selection": {"eventSource": "cloudtrail.amazonaws.com", "eventName": _OFF}},
        "selection",
    )  # fmt: skip
    known = sorted(guarded.identities)
    for model in guarded.models:
        yield from _s3(model, known)
        yield from _gcs(model, known)
        yield from _keys(model, sorted(guarded.brokers))
        yield from _doors(model)


def _s3(model: Model, known: list[str]) -> Iterator[dict[str, Any]]:
    for place in model.places:
        if not place.startswith("s3://"):
            continue
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        where: dict[str, Any] = {"requestParameters.bucketName": bucket}
        inside = {**where, **({"requestParameters.key|startswith": prefix} if prefix else {})}
        reads = {"eventSource": "s3.amazonaws.com", "eventName": "GetObject", **inside}
        searches: dict[str, Any] = {"selection": reads}
        if known:
            searches["known_arn"] = {"userIdentity.arn": known}
            searches["known_role"] = {"userIdentity.sessionContext.sessionIssuer.arn": known}
        condition = "selection and not 1 of known_*" if known else "selection"
        yield _rule(
            f"Shards of {model.name} read by somebody unknown", "high", _AWS, searches, condition
        )
        signed = {**reads, "additionalEventData.AuthenticationMethod": "QueryString"}
        yield _rule(
            f"Shards of {model.name} read through a signed URL", "high", _AWS,
            {"selection": signed}, "selection",
        )  # fmt: skip
        yield _rule(
            f"Shards of {model.name} copied by the store", "high", _AWS,
            {
                "selection": {
                    "eventName": ["CopyObject", "UploadPartCopy"],
                    "requestParameters.x-amz-copy-source|contains": f"{bucket}/{prefix}",
                }
            },
            "selection",
        )  # fmt: skip
        yield _rule(
            f"The bucket of {model.name} opened to others", "medium", _AWS,
            {"selection": {"eventName": _SHARES, **where}}, "selection",
        )  # fmt: skip


def _gcs(model: Model, known: list[str]) -> Iterator[dict[str, Any]]:
    for place in model.places:
        if not place.startswith("gs://"):
            continue
        bucket, _, prefix = place.removeprefix("gs://").partition("/")
        named = f"projects/_/buckets/{bucket}/objects/{prefix}"
        searches: dict[str, Any] = {
            "selection": {
                "protoPayload.methodName": "storage.objects.get",
                "protoPayload.resourceName|startswith": named,
            }
        }
        if known:
            searches["known"] = {"protoPayload.authenticationInfo.principalEmail": known}
        condition = "selection and not known" if known else "selection"
        yield _rule(
            f"Shards of {model.name} read by somebody unknown", "high", _GCP, searches, condition
        )


def _keys(model: Model, brokers: list[str]) -> Iterator[dict[str, Any]]:
    keys = [key.removeprefix("kms:") for key in model.keys if key.startswith("kms:arn:")]
    if not keys:
        return
    searches: dict[str, Any] = {
        "selection": {
            "eventSource": "kms.amazonaws.com",
            "eventName": ["Decrypt", "ReEncrypt"],
            "resources.ARN": keys,
        }
    }
    if brokers:
        searches["broker_arn"] = {"userIdentity.arn": brokers}
        searches["broker_role"] = {"userIdentity.sessionContext.sessionIssuer.arn": brokers}
    condition = "selection and not 1 of broker_*" if brokers else "selection"
    yield _rule(
        f"Key of {model.name} used by another than the broker", "high", _AWS, searches, condition
    )


def _doors(model: Model) -> Iterator[dict[str, Any]]:
    for place in model.places:
        if not place.startswith("k8s://"):
            continue
        namespace = place.removeprefix("k8s://").partition("/")[0]
        yield _rule(
            f"A door into where {model.name} is used", "medium", _K8S,
            {
                "selection": {
                    "objectRef.namespace": namespace,
                    "objectRef.subresource": ["exec", "attach", "portforward", "proxy"],
                }
            },
            "selection",
        )  # fmt: skip


def _rule(
    title: str, level: str, source: dict[str, str], searches: dict[str, Any], condition: str
) -> dict[str, Any]:
    told = {
        "title": title,
        "status": "experimental",
        "description": "Made by Tidegate from its models file.",
        "logsource": source,
        "detection": {**searches, "condition": condition},
        "level": level,
    }
    # The same rule has the same id in every export, so that an update replaces it.
    return {"id": str(uuid5(NAMESPACE_URL, f"tidegate audit {title} {searches}")), **told}
