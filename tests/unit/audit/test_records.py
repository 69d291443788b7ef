"""Files of logs are cut into records, and what cannot be is named."""

from __future__ import annotations

import json

import pytest

from tidegate.audit import records
from tidegate.audit.event import Broken
from tidegate.audit.records import json_records, text_lines

ONE, TWO = b'{"a":1}', b'{"a":{"b":[2]}}'


def _read(*lines: bytes) -> list[tuple[int, bytes | Broken]]:
    return list(json_records(lines))


def _texts(*lines: bytes) -> list[object]:
    return [json.loads(raw) for _, raw in _read(*lines) if isinstance(raw, bytes)]


@pytest.mark.parametrize(
    "lines",
    [
        (ONE + b"\n", TWO + b"\n"),
        (b'{"Records":[' + ONE + b"," + TWO + b"]}",),
        (b'{"Records": [' + ONE + b"]}\n", b'{"Records": [' + TWO + b"]}\n"),
        (b'{"records":[\n', ONE + b",\n", TWO + b"\n", b"]}\n"),
        (b"[\n", ONE + b",\n", TWO + b"]\n"),
        (b"[" + ONE + b"," + TWO + b"]",),
        (b"\n", b"  \n", ONE + b"\n", b"\n", TWO),
    ],
    ids=["lines", "envelope", "envelopes", "written out", "array", "one line", "empty lines"],
)
def test_every_way_of_writing_records_gives_the_same_records(lines: tuple[bytes, ...]) -> None:
    assert _texts(*lines) == [{"a": 1}, {"a": {"b": [2]}}]


def test_one_object_on_many_lines_is_one_record() -> None:
    assert _texts(b"{\n", b'"a": 1\n', b"}\n") == [{"a": 1}]


def test_records_are_numbered_by_line_or_by_place_in_the_document() -> None:
    assert [number for number, _ in _read(ONE, b"\n", TWO)] == [1, 3]
    assert [number for number, _ in _read(b"[" + ONE + b"," + TWO + b"]")] == [1, 2]


def test_a_torn_document_is_named_and_lines_after_a_broken_first_are_kept() -> None:
    assert isinstance(_read(b'{"Records":[{"a":1},{"a"')[0][1], Broken)
    assert [number for number, _ in _read(b'{"torn\n', ONE, TWO)] == [1, 2, 3]


def test_a_torn_envelope_among_envelopes_is_named() -> None:
    read = _read(b'{"Records":[{"a":1}]}', b'{"Records":[{"a":')
    assert isinstance(read[1][1], Broken)


def test_a_document_beyond_the_limit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LARGEST_DOCUMENT", 20)
    broken = _read(b"[\n", *[ONE + b",\n"] * 9, ONE, b"]")[0][1]
    assert isinstance(broken, Broken)
    assert "one a line" in broken.why.replace("\n", " ")


@pytest.mark.parametrize("reader", [json_records, text_lines])
def test_a_line_beyond_the_limit_is_named(reader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LARGEST_LINE", 30)
    found = list(reader([ONE, b'{"a":"' + b"x" * 40 + b'"}']))  # type: ignore[operator]
    assert isinstance(found[1][1], Broken)


def test_an_empty_file_holds_nothing() -> None:
    assert _read() == []
    assert _read(b"\n", b" \n") == []
