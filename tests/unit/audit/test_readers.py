"""Each kind of log is read into the same events; samples are made up in the shape of the real."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidegate.audit.event import UNKNOWN, Action, Event
from tidegate.audit.readers import READERS, kind_of
from tidegate.audit.records import FAULTS

ROLE = "arn:aws:iam::1:role/serve"
TRAIL: dict[str, Any] = {
    "eventTime": "2026-01-02T03:04:05Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "sourceIPAddress": "192.0.2.1",
    "userAgent": "[aws-cli/2.1]",
    "userIdentity": {
        "type": "AssumedRole",
        "arn": "arn:aws:sts::1:assumed-role/serve/session",
        "accountId": "1",
        "accessKeyId": "ASIAX",
        "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::1:role/path/serve"}},
    },
    "requestParameters": {"bucketName": "weights", "key": "tide/0"},
    "additionalEventData": {"bytesTransferredOut": 500.0, "AuthenticationMethod": "AuthHeader"},
    "resources": [{"ARN": "arn:aws:s3:::weights/tide/0"}, {"accountId": "2", "ARN": "a"}],
    "recipientAccountId": "2",
    "requestID": "R1",
    "eventCategory": "Data",
}


def read(kind: str, told: object) -> Event:
    """The event of one record."""
    raw = told if isinstance(told, bytes) else json.dumps(told).encode()
    event = READERS[kind]().parse(raw)
    assert event is not None
    return event


def trail(**changes: Any) -> Event:
    """A CloudTrail record with other fields."""
    return read("cloudtrail", {**TRAIL, **changes})


def test_cloudtrail_s3_read() -> None:
    event = trail()
    assert event == Event(
        time=1767323045.0,
        stream="cloudtrail s3 data",
        action=Action.READ,
        operation="s3:GetObject",
        ok=True,
        principal=ROLE,
        target="s3://weights/tide/0",
        credential="ASIAX",
        address="192.0.2.1",
        agent="[aws-cli/2.1]",
        length=500,
        account="1",
        owner="2",
        request="R1",
    )


def test_cloudtrail_time_as_shippers_rewrite_it() -> None:
    told = {name: value for name, value in TRAIL.items() if name != "eventTime"}
    assert (
        read("cloudtrail", {**told, "@timestamp": "2026-01-02T03:04:05.000Z"}).time == trail().time
    )
    with pytest.raises(FAULTS, match="eventTime"):
        read("cloudtrail", told)


def test_cloudtrail_signed_urls_refusals_and_copies() -> None:
    assert trail(additionalEventData={"AuthenticationMethod": "QueryString"}).presigned
    assert not trail(errorCode="AccessDenied").ok
    copy = trail(
        eventName="UploadPartCopy",
        requestParameters={
            "bucketName": "other",
            "key": "k",
            "x-amz-copy-source": "weights/tide%2F0?versionId=3",
            "x-amz-copy-source-range": "bytes=100-199",
        },
    )
    assert (copy.action, copy.target, copy.other) == (
        Action.COPY, "s3://weights/tide/0", "s3://other/k",
    )  # fmt: skip
    assert (copy.offset, copy.length) == (100, 100)


def test_cloudtrail_parameters_of_another_shape_do_not_lose_the_record() -> None:
    event = trail(
        eventSource="ec2.amazonaws.com", eventName="CreateTags", requestParameters={"key": [1]}
    )
    assert (event.action, event.stream) == (Action.OTHER, "cloudtrail other data")
    odd = trail(eventName="PutBucketPolicy", eventCategory="Management", requestParameters={
        "bucketName": "weights", "bucketPolicy": {"Statement": []}})  # fmt: skip
    assert (odd.action, odd.target) == (Action.SHARE, "s3://weights")


def test_cloudtrail_unknown_data_operation_is_unknown_and_settings_are_not() -> None:
    assert trail(eventName="StreamObject").action is Action.UNKNOWN
    assert trail(eventName="GetBucketVersioning", eventCategory="Management").action is Action.LIST


def test_cloudtrail_kms() -> None:
    event = trail(
        eventSource="kms.amazonaws.com",
        eventName="Decrypt",
        eventCategory="Management",
        requestParameters={"encryptionContext": {"model": "tide", "a": "b"}},
        resources=[{"ARN": "arn:aws:kms:x:1:key/k", "accountId": "1"}],
    )
    assert (event.action, event.target) == (Action.DECRYPT, "kms:arn:aws:kms:x:1:key/k")
    assert event.other == "a=b,model=tide"


@pytest.mark.parametrize(
    ("name", "parameters", "action"),
    [
        ("StopLogging", {"name": "t"}, Action.LOGGING_OFF),
        ("PutEventSelectors", {"trailName": "t", "eventSelectors": []}, Action.LOGGING_OFF),
        (
            "PutEventSelectors",
            {"eventSelectors": [{"dataResources": [{"type": "AWS::S3::Object"}]}]},
            Action.LOGGING_ON,
        ),
        ("StartLogging", {"name": "t"}, Action.LOGGING_ON),
    ],
)
def test_cloudtrail_logging(name: str, parameters: dict[str, Any], action: Action) -> None:
    event = trail(
        eventSource="cloudtrail.amazonaws.com", eventName=name, requestParameters=parameters
    )
    assert event.action is action


LINE = (
    "79a59df900b949e5 weights [06/Feb/2026:00:00:38 +0000] 192.0.2.3 {who} REQ1 {op} {key} "
    '"GET /tide/0?x HTTP/1.1" {status} - {sent} {size} 70 10 "{referrer}" "{agent}" - HOST SigV4 '
    "TLS_AES_128_GCM_SHA256 {method} weights.s3.test TLSv1.2 - -"
)


def line(**changes: str) -> Event:
    """A line of an S3 server access log."""
    told = {
        "who": "arn:aws:sts::1:assumed-role/serve/s", "op": "REST.GET.OBJECT", "key": "tide/0",
        "status": "206", "sent": "100", "size": "900", "referrer": "-", "agent": "S3Console/0.4",
        "method": "AuthHeader", **changes,
    }  # fmt: skip
    return read("s3-access", LINE.format(**told).encode())


def test_s3_access_read() -> None:
    event = line()
    assert (event.action, event.target, event.principal) == (
        Action.READ, "s3://weights/tide/0", ROLE,
    )  # fmt: skip
    assert (event.offset, event.length, event.time) == (UNKNOWN, 100, 1770336038.0)
    assert (event.agent, event.account, event.presigned) == ("S3Console/0.4", "1", False)


def test_s3_access_whole_object_anonymous_and_signed() -> None:
    whole = line(status="200", sent="900", who="-", method="QueryString", key="tide/a%252Fb")
    assert (whole.offset, whole.length, whole.principal) == (0, 900, "anonymous")
    assert whole.presigned
    assert whole.target == "s3://weights/tide/a/b"


def test_s3_access_quotes_in_the_agent_hide_no_read() -> None:
    forged = line(agent='curl" 1 "x')
    assert (forged.length, forged.target) == (100, "s3://weights/tide/0")


def test_s3_access_copies_and_what_it_has_no_word_for() -> None:
    assert line(op="REST.COPY.OBJECT_GET", sent="-").length == 900
    assert line(op="REST.STREAM.OBJECT").action is Action.UNKNOWN
    assert line(op="REST.GET.LIFECYCLE").action is Action.LIST


GCP: dict[str, Any] = {
    "timestamp": "2026-01-02T03:04:05.5Z",
    "insertId": "i1",
    "logName": "projects/p/logs/cloudaudit.googleapis.com%2Fdata_access",
    "resource": {"type": "gcs_bucket", "labels": {"project_id": "p", "bucket_name": "weights"}},
    "protoPayload": {
        "methodName": "storage.objects.get",
        "serviceName": "storage.googleapis.com",
        "resourceName": "projects/_/buckets/weights/objects/tide/0",
        "authenticationInfo": {"principalEmail": "a@p.test", "serviceAccountKeyName": "key1"},
        "requestMetadata": {"callerIp": "192.0.2.9", "callerSuppliedUserAgent": "gsutil"},
    },
}


def gcp(**changes: Any) -> Event:
    """A Cloud Audit Log entry with another payload."""
    return read("gcs", {**GCP, "protoPayload": {**GCP["protoPayload"], **changes}})


def test_gcs() -> None:
    event = gcp()
    assert (event.action, event.target, event.length) == (
        Action.READ, "gs://weights/tide/0", UNKNOWN,
    )  # fmt: skip
    assert (event.principal, event.credential, event.owner) == ("a@p.test", "key1", "p")
    assert event.stream == "gcp data access"
    assert not gcp(status={"code": 7}).ok
    assert gcp(methodName="storage.objects.stream").action is Action.UNKNOWN


def test_gcs_keys_and_logging() -> None:
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    used = gcp(
        methodName="Decrypt",
        serviceName="cloudkms.googleapis.com",
        resourceName=f"{key}/cryptoKeyVersions/1",
    )
    assert (used.action, used.target) == (Action.DECRYPT, f"kms:{key}")
    audit = {"policyDelta": {"auditConfigDeltas": [{"action": "REMOVE"}]}}
    assert gcp(methodName="SetIamPolicy", serviceData=audit).action is Action.LOGGING_OFF
    assert gcp(methodName="SetIamPolicy").action is Action.SHARE


AZURE: dict[str, Any] = {
    "time": "2026-01-02T03:04:05.1234567Z",
    "category": "StorageRead",
    "operationName": "GetBlob",
    "statusCode": 206,
    "callerIpAddress": "192.0.2.8:5555",
    "correlationId": "c1",
    "identity": {"type": "OAuth", "requester": {"upn": "u@t.test"}, "tokenHash": "h"},
    "properties": {
        "accountName": "acc", "objectKey": "/acc/weights/tide/0", "userAgentHeader": "azcopy/10",
        "responseBodySize": 4096,
    },
    "uri": "https://acc.blob.core.windows.net:443/weights/tide/0",
}  # fmt: skip


def test_azure() -> None:
    event = read("azure", AZURE)
    assert (event.action, event.target, event.length) == (
        Action.READ, "az://acc/weights/tide/0", 4096,
    )  # fmt: skip
    assert (event.principal, event.address, event.ok) == ("u@t.test", "192.0.2.8", True)
    signed = read("azure", {**AZURE, "identity": {"type": "SAS", "tokenHash": "s"}})
    assert signed.presigned
    assert signed.credential == "s"
    assert not read("azure", {**AZURE, "statusCode": 403}).ok


def test_azure_copies_keys_and_diagnostics() -> None:
    copied = read("azure", {**AZURE, "operationName": "CopyBlob", "category": "StorageWrite",
        "properties": {"sourceUri": "https://acc.blob.core.windows.net/weights/tide/0?sig=x",
                       "destinationUri": "https://bad.blob.core.windows.net/c/b"}})  # fmt: skip
    assert (copied.action, copied.target, copied.other) == (
        Action.COPY, "az://acc/weights/tide/0", "az://bad/c/b",
    )  # fmt: skip
    key = "https://v.vault.azure.net/keys/k"
    used = read("azure", {**AZURE, "operationName": "KeyUnwrap", "category": "AuditEvent",
        "properties": {"id": key}})  # fmt: skip
    assert (used.action, used.target) == (Action.DECRYPT, f"kms:{key}")
    off = {"time": AZURE["time"], "operationName": "Microsoft.Insights/diagnosticSettings/delete"}
    assert read("azure", off).action is Action.LOGGING_OFF


K8S: dict[str, Any] = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "auditID": "id",
    "stage": "ResponseComplete",
    "verb": "get",
    "stageTimestamp": "2026-01-02T03:04:05.000000Z",
    "user": {"username": "u"},
    "sourceIPs": ["192.0.2.7"],
    "userAgent": "kubectl/v1",
    "objectRef": {"resource": "secrets", "namespace": "vault", "name": "dek"},
    "responseStatus": {"code": 200},
}


def test_kubernetes() -> None:
    event = read("kubernetes", K8S)
    assert (event.action, event.target) == (Action.DECRYPT, "k8s://vault/secrets/dek")
    assert (event.principal, event.address) == ("u", "192.0.2.7")
    assert (
        READERS["kubernetes"]().parse(json.dumps({**K8S, "stage": "RequestReceived"}).encode())
        is None
    )
    place = {"resource": "pods", "subresource": "exec", "namespace": "n", "name": "p"}
    door = {**K8S, "verb": "create", "objectRef": place, "stage": "ResponseStarted"}
    assert read("kubernetes", door).action is Action.EXECUTE
    # A door is one event: when it opens, not when it is shut.
    shut = json.dumps({**door, "stage": "ResponseComplete"}).encode()
    assert READERS["kubernetes"]().parse(shut) is None


BAO: dict[str, Any] = {
    "time": "2026-01-02T03:04:05.123456789Z",
    "type": "response",
    "auth": {"display_name": "token-broker", "accessor": "hmac-sha256:1"},
    "request": {
        "id": "r", "operation": "update", "path": "transit/decrypt/tide", "mount_type": "transit",
        "remote_address": "192.0.2.6", "headers": {"user-agent": ["tidegate"]},
    },
}  # fmt: skip


def test_openbao() -> None:
    event = read("openbao", BAO)
    assert (event.action, event.target) == (Action.DECRYPT, "kms:transit/tide")
    assert (event.principal, event.agent) == ("token-broker", "tidegate")
    assert READERS["openbao"]().parse(json.dumps({**BAO, "type": "request"}).encode()) is None
    export = {**BAO["request"], "path": "transit/export/encryption-key/tide", "operation": "read"}
    assert read("openbao", {**BAO, "request": export}).target == "kms:transit/tide"
    off = {"path": "sys/audit/file", "operation": "delete"}
    assert read("openbao", {**BAO, "request": off}).action is Action.LOGGING_OFF
    assert not read("openbao", {**BAO, "error": "permission denied"}).ok


def test_our_own_log_alone_and_in_the_transparency_log() -> None:
    request = {"id": "ab", "requester": "rosa", "model": "m", "host": "h"}
    entry = {"n": 3, "time": 5000, "wall": 0, "does": {"kind": "request", "request": request}}
    asked = read("log", entry)
    assert (asked.time, asked.operation, asked.principal) == (5.0, "tidegate:request", "rosa")
    assert (asked.target, asked.other) == ("grant:ab", "m")
    logged = {"body": entry, "id": "grant/3", "kind": "grant", "time": 9000, "v": 1}
    assert read("log", logged) == asked
    assert not read("log", {"n": 4, "time": 1, "does": {"kind": "refuse", "by": "x"}}).ok
    verdict = {"body": {"x": 1}, "id": "v", "kind": "verdict", "time": 9000, "v": 1}
    assert read("log", verdict).operation == "tidegate:verdict"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (json.dumps({"Records": [TRAIL]}), "cloudtrail"),
        (json.dumps([TRAIL], indent=1), "cloudtrail"),
        (json.dumps(GCP), "gcs"),
        (json.dumps({"records": [AZURE]}), "azure"),
        (json.dumps(K8S), "kubernetes"),
        (json.dumps(BAO), "openbao"),
        ('{"n":0,"time":1,"wall":1,"does":{"kind":"wipe"}}', "log"),
        ('{"body":{},"id":"","kind":"verdict","time":1,"v":1}', "log"),
        (LINE.format(who="-", op="X", key="-", status="200", sent="-", size="-", referrer="-",
                     agent="-", method="-"), "s3-access"),
        ("type=SYSCALL msg=audit(1.1:1): arch=c000003e", "auditd"),
        ("nothing that any reader knows", None),
        ('{"some":"json"}', None),
    ],
)  # fmt: skip
def test_the_kind_of_a_log_is_told_by_its_beginning(head: str, kind: str | None) -> None:
    assert kind_of(head.encode()) == kind
