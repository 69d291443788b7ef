"""Made-up events as the lines that stores write, and the grants' journal beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from tidegate.audit.event import UNKNOWN, Action, Event
from tidegate.audit.ocsf_events import line_of
from tidegate.bench.vault_audit_traffic import (
    ACCOUNT,
    DAY,
    KEY,
    PLACE,
    SHARD,
    SHARDS,
    START,
    draw,
    hash_of,
    role,
)

_HOUR: Final = 3600
HOSTS: Final = ("serve", "train", "backup", "eval")
_SECURITY: Final = ("sana", "sven", "silke")
_TEAM: Final = ("mara", "miro", "mona")

MODELS: Final = (
    f"""
brokers = ["{role("broker")}"]
networks = ["10.0.0.0/8"]

[[model]]
name = "tide"
at = ["{PLACE}"]
keys = ["{KEY}"]
"""
    + "".join(
        f'[[model.shards]]\nname = "{number:05d}.shard"\nsize = {SHARD}\n'
        for number in range(SHARDS)
    )
    + "".join(f'[[identity]]\nname = "{host}"\nknown_as = ["{role(host)}"]\n' for host in HOSTS)
)
"""The models file of the made-up store."""


def cloudtrail(event: Event) -> bytes:
    """One CloudTrail record with all the fields that real ones have; no range, as in real ones."""
    source, _, name = event.operation.partition(":")
    bucket, _, key = event.target.removeprefix("s3://").partition("/")
    s3 = source == "s3"
    asked: dict[str, Any] = {"keyId": KEY} if source == "kms" else {"name": event.target}
    if s3:
        asked = {"bucketName": bucket, "Host": f"{bucket}.s3.eu-west-1.amazonaws.com", "key": key}
    if event.action is Action.COPY:
        copy, _, item = event.other.removeprefix("s3://").partition("/")
        asked = {"bucketName": copy, "key": item, "x-amz-copy-source": f"{bucket}/{key}"}
    name_of_role = event.principal.rpartition("/")[2]
    told = {
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": f"AROA{hash_of(name_of_role)}:session",
            "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{name_of_role}/session",
            "accountId": event.account,
            "accessKeyId": event.credential,
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": f"AROA{hash_of(name_of_role)}",
                    "arn": event.principal,
                    "accountId": ACCOUNT,
                    "userName": name_of_role,
                },
                "attributes": {"creationDate": _iso(event.time), "mfaAuthenticated": "false"},
            },
        },
        "eventTime": _iso(event.time),
        "eventSource": f"{source}.amazonaws.com",
        "eventName": name,
        "awsRegion": "eu-west-1",
        "sourceIPAddress": event.address,
        "userAgent": f"[{event.agent}]",
        "requestParameters": asked,
        "responseElements": None,
        "additionalEventData": {
            "SignatureVersion": "SigV4",
            "CipherSuite": "TLS_AES_128_GCM_SHA256",
            "bytesTransferredIn": 0,
            "AuthenticationMethod": "QueryString" if event.presigned else "AuthHeader",
            "x-amz-id-2": hash_of((event.request, 2)) * 4,
            "bytesTransferredOut": max(0, event.length),
        },
        "requestID": event.request,
        "eventID": hash_of((event.request, "event")),
        "readOnly": event.action is not Action.COPY,
        "resources": [
            {"type": "AWS::S3::Object", "ARN": f"arn:aws:s3:::{bucket}/{key}"},
            {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"},
        ]
        if s3
        else [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": KEY}],
        "eventType": "AwsApiCall",
        "managementEvent": not s3,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Data" if s3 else "Management",
    }
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def s3_access(event: Event) -> bytes:
    """One line of an S3 server access log."""
    bucket, _, key = event.target.removeprefix("s3://").partition("/")
    time = datetime.fromtimestamp(event.time, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    operation = "REST.HEAD.OBJECT" if event.action is Action.LIST else "REST.GET.OBJECT"
    status = 206 if event.length < SHARD else 200
    who = f"arn:aws:sts::{ACCOUNT}:assumed-role/{event.principal.rpartition('/')[2]}/session"
    return (
        f"{hash_of('owner') * 4} {bucket} [{time}] {event.address} {who} {event.request} "
        f'{operation} {key} "GET /{key} HTTP/1.1" {status} - {max(0, event.length)} {SHARD} 45 12 '
        f'"-" "{event.agent}" - {hash_of(event.request) * 4} SigV4 TLS_AES_128_GCM_SHA256 '
        f"{'QueryString' if event.presigned else 'AuthHeader'} {bucket}.s3.test TLSv1.3 - -\n"
    ).encode()


def own_events(event: Event) -> bytes:
    """One line as `tidegate audit --events` writes it: the only format here that has ranges."""
    return line_of(event, "bench") + b"\n"


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def decrypts(count: int) -> Iterator[Event]:
    """The broker's use of the key at each release of the journal below."""
    for day, _ in _weeks(count):
        for place, host in enumerate(HOSTS):
            if host == "eval" and day > 7:
                continue
            for shard in range(SHARDS):
                yield Event(
                    time=_released(day, place) + 0.2 * shard + 1,
                    stream="cloudtrail management",
                    action=Action.DECRYPT,
                    operation="kms:Decrypt",
                    ok=True,
                    principal=role("broker"),
                    target=f"kms:{KEY}",
                    address="10.9.0.1",
                    agent="tidegate/0.1",
                    account=ACCOUNT,
                    owner=ACCOUNT,
                    request=hash_of(("decrypt", day, host, shard)),
                    length=UNKNOWN,
                )


def _weeks(count: int) -> Iterator[tuple[int, int]]:
    for number, day in enumerate(range(-7, count, 7)):
        yield day, number


def _released(day: int, place: int) -> float:
    return START + day * DAY + 7 * _HOUR + 600 * place


def journal(count: int) -> Iterator[bytes]:
    """Weekly grants of all shards to each host, and what colluding people do; JSON lines.

    Two people with requests of their own always approve each other's; `silke` approves at once, as
    she was told before. The eval host's grants end after two weeks.
    """
    entries: list[tuple[float, dict[str, Any]]] = []
    for day, number in _weeks(count):
        for place, host in enumerate(HOSTS):
            if host == "eval" and day > 7:
                continue
            requester = ("rosa", "rudi", "ruth", "ralf")[place]
            asked = _released(day, place) - 3 * _HOUR
            by = (_SECURITY[number % 3], _TEAM[(number + place) % 3])
            waits = [300 + 6000 * draw(day, place, name) for name in by]
            if by[0] == "silke" and place == 0:
                waits[0] = 20.0
            entries += _grant(
                f"{host}{day}", requester, host, asked, by, waits, _released(day, place), 7
            )
        pair = ("paul", "petra") if number % 2 else ("petra", "paul")
        asked = START + day * DAY + 15 * _HOUR
        entries += _grant(f"pair{day}", pair[0], "lab", asked, (pair[1],), [900.0], None, 1)
    entries.sort(key=lambda entry: entry[0])
    for n, (time, does) in enumerate(entries):
        told = {"n": n, "time": int(1000 * time), "wall": int(1000 * time), "does": does}
        yield json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _grant(
    name: str,
    requester: str,
    host: str,
    asked: float,
    by: tuple[str, ...],
    waits: list[float],
    released: float | None,
    days: int,
) -> Iterator[tuple[float, dict[str, Any]]]:
    grant = (hash_of(name) * 2).lower()
    request = {
        "v": 1, "id": grant, "requester": requester, "why": "weekly", "model": "tide",
        "manifest": "0" * 64, "shards": list(range(SHARDS)), "host": host, "reference": "0" * 64,
        "seconds": days * DAY, "break_glass": False, "policy": "0" * 64, "time": int(1000 * asked),
    }  # fmt: skip
    yield asked, {"kind": "request", "request": request}
    for who, team, wait in zip(by, ("security", "ml"), waits, strict=False):
        assertion = {
            "credential": "AA==",
            "authenticator": "AA==",
            "client": "AA==",
            "signature": "AA==",
        }
        yield (
            asked + wait,
            {"kind": "approve", "grant": grant, "by": who, "team": team, "assertion": assertion},
        )
    if released is not None:
        evidence = {"kind": "tpm", "device": host, "reference": "0" * 64, "digest": "0" * 64}
        until = int(1000 * (released + days * DAY))
        yield released, {
            "kind": "release", "grant": grant, "by": requester, "evidence": evidence,
            "key": "0" * 64, "until": until,
        }  # fmt: skip
