"""Invariant: whatever the bytes, a log is read to its end, and every record is an event, no event
by the format's rules, or named as broken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.audit.event import Broken, Event, Place
from tidegate.audit.examine import Examiner
from tidegate.audit.grants import read_journal
from tidegate.audit.models import Guarded
from tidegate.audit.readers import READERS, kind_of
from tidegate.audit.records import FAULTS, json_records
from tidegate.bench import vault_audit_render as render
from tidegate.bench import vault_audit_traffic as traffic

EVENT = next(iter(traffic.days(1))).event
SAMPLES = {
    "cloudtrail": render.cloudtrail(EVENT),
    "s3-access": render.s3_access(EVENT),
    "events": render.own_events(EVENT),
    "gcs": json.dumps({"timestamp": "2026-01-02T03:04:05Z", "logName": "x", "protoPayload": {
        "methodName": "storage.objects.get", "resourceName": "projects/_/buckets/b/objects/o",
        "authenticationInfo": {"principalEmail": "a"}}}).encode() + b"\n",
    "azure": json.dumps({"time": "2026-01-02T03:04:05Z", "category": "StorageRead", "statusCode": 1,
        "operationName": "GetBlob", "uri": "https://a.blob.test:443/c/b", "properties": {
        "responseBodySize": 4, "objectKey": ""}, "identity": {"type": "SAS"}}).encode() + b"\n",
    "kubernetes": json.dumps({"auditID": "a", "stage": "ResponseComplete", "verb": "get",
        "stageTimestamp": "2026-01-02T03:04:05Z", "user": {"username": "u", "extra": {"a": ["b"]}},
        "objectRef": {"resource": "secrets", "name": "n"}}).encode() + b"\n",
    "openbao": json.dumps({"time": "2026-01-02T03:04:05Z", "type": "response", "request": {
        "path": "transit/decrypt/k", "operation": "update", "headers": {}}}).encode() + b"\n",
    "log": b'{"n":1,"time":5,"wall":1,"does":{"kind":"wipe","grant":"a","by":"b"}}\n',
    "auditd": b"type=SYSCALL msg=audit(1.5:9): arch=c000003e syscall=17 success=yes exit=9 a0=3 "
    b"a3=ff pid=1 auid=5\ntype=PATH msg=audit(1.5:9): name=2F6D\n",
}  # fmt: skip


def _read(kind: str, data: bytes) -> int:
    reader, examiner = READERS[kind](), Examiner(Guarded(()), None)
    count = 0
    for number, raw in reader.records(data.splitlines(keepends=True)):
        count += 1
        if isinstance(raw, Broken):
            examiner.fail(raw, Place(0, number))
            continue
        try:
            event = reader.parse(raw)
        except FAULTS:
            continue
        if event is not None:
            assert isinstance(event, Event)
            examiner.take(event, Place(0, number))
    return count


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_changed_records_are_read_or_named(kind: str, data: st.DataObject) -> None:
    raw = bytearray(SAMPLES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        cut = data.draw(st.integers(0, 3))
        raw[at : at + cut] = data.draw(
            st.one_of(
                st.binary(max_size=4), st.sampled_from([b"null", b"[", b'"', b"99999", b"-1"])
            )
        )
    assert _read(kind, bytes(raw)) >= (1 if raw.strip() else 0)


@pytest.mark.parametrize("kind", READERS)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_named(kind: str, data: bytes) -> None:
    _read(kind, data)
    kind_of(data)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("opening", [b"[" * 100_000, b'{"Records":' + b"[" * 100_000])
def test_brackets_without_end_are_named(kind: str, opening: bytes) -> None:
    _read(kind, opening)
    _read(kind, SAMPLES[kind] + opening + b"\n" + SAMPLES[kind])


@given(st.binary(max_size=200))
def test_any_journal_is_read_or_named(data: bytes) -> None:
    lines = data.splitlines(keepends=True)
    journal = read_journal((Place(0, number), raw) for number, raw in json_records(lines))
    assert journal.grants == {}
