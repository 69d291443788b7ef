from __future__ import annotations

import msgspec
import pytest

from tidegate.transparency.entry import MAX_ENTRY_BYTES, Body, Entry, Kind, encode, parse
from tidegate.transparency.errors import EntryError


def entry(body: Body, **changes: object) -> Entry:
    made = Entry(kind=Kind.GRANT, time=1_700_000_000_000, body=dict(body))
    return msgspec.structs.replace(made, **changes)


def test_an_entry_reads_back_and_has_one_form() -> None:
    made = entry({"z": 1, "a": [True, None, "é\n", {"y": -5, "x": []}]}, id="request/1")
    raw = encode(made)
    assert raw.startswith(b'{"body":{"a":[true,null,"\xc3\xa9\\n",{"x":[],"y":-5}],"z":1},"id"')
    assert parse(raw, 3).entry == made
    assert parse(raw, 3).index == 3
    assert encode(entry({"b": 1, "a": 2})) == encode(entry({"a": 2, "b": 1}))


@pytest.mark.parametrize(
    "body",
    [
        {"share": 0.5},
        {"n": 2**53},
        {"n": -(2**53)},
        {"raw": b"bytes"},
        {"": 1},
        {"ключ": 1},
        {'quo"te': 1},
        {"k" * 129: 1},
        {"text": "\ud800"},
        {"text": "x" * MAX_ENTRY_BYTES},
        {"set": {1}},
    ],
)
def test_what_programs_may_read_differently_is_refused(body: Body) -> None:
    with pytest.raises(EntryError):
        encode(entry(body))


def test_a_body_nests_as_deep_as_it_may_and_no_deeper() -> None:
    body: dict[str, object] = {}
    for _ in range(15):
        body = {"in": body}
    encode(entry(body))
    with pytest.raises(EntryError, match="deep"):
        encode(entry({"in": {"in": body}}))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"body":{},"id":"","kind":"grant","time":1,"v":2}',
        b'{"body":{},"id":"","kind":"gift","time":1,"v":1}',
        b'{"body":{},"id":"","kind":"grant","time":-1,"v":1}',
        b'{"body":{},"id":"","kind":"grant","time":1,"v":1,"more":1}',
        b'{"body":{},"id":"","kind":"grant","time":1}',
        b'{"body": {},"id":"","kind":"grant","time":1,"v":1}',
        b'{"id":"","body":{},"kind":"grant","time":1,"v":1}',
        b'{"body":{"a":1.0},"id":"","kind":"grant","time":1,"v":1}',
        b'{"body":{"a":1,"a":1},"id":"","kind":"grant","time":1,"v":1}',
        b'{"body":{"b":1,"a":1},"id":"","kind":"grant","time":1,"v":1}',
        b'{"body":{},"id":"","kind":"grant","time":1,"v":1}\n',
        b'{"body":{"a":"\xff"},"id":"","kind":"grant","time":1,"v":1}',
        b'{"body":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b',"id":"","kind":"grant"}',
    ],
)
def test_bytes_that_are_not_an_entrys_one_form_are_refused(raw: bytes) -> None:
    with pytest.raises(EntryError, match="Entry 7"):
        parse(raw, 7)
