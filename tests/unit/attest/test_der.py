"""DER is read strictly: one way to write a thing, and every other way is an error."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from evidence_authorities import integer, oid, time, tlv
from hypothesis import given
from hypothesis import strategies as st

from tidegate.attest.der import BOOLEAN, INTEGER, NULL, OCTET_STRING, SEQUENCE, Der
from tidegate.attest.errors import EvidenceError


def read(data: bytes) -> Der:
    return Der(data, "test", "field")


@given(st.integers(-(2**200), 2**200))
def test_numbers_come_back(value: int) -> None:
    assert read(integer(value)).integer() == value


@given(st.lists(st.integers(0, 2**60), min_size=1, max_size=6), st.integers(0, 39))
def test_object_identifiers_come_back(arcs: list[int], second: int) -> None:
    dots = ".".join(map(str, (1, second, *arcs)))
    assert read(oid(dots)).oid() == dots


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2049, 12, 31)).map(  # noqa: DTZ001
        lambda when: when.replace(microsecond=0, tzinfo=UTC)
    )
)
def test_times_come_back(when: datetime) -> None:
    assert read(time(when)).time() == when


@given(st.binary(max_size=300))
def test_strings_of_any_length_come_back(body: bytes) -> None:
    reader = read(tlv(OCTET_STRING, body))
    assert reader.bytes_of(OCTET_STRING) == body
    reader.end()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing at all"),
        (b"\x02", "a tag alone"),
        (b"\x02\x02\x01", "contents cut short"),
        (b"\x02\x81\x01\x01", "a long length where a short one does"),
        (b"\x02\x82\x00\x81" + b"\1" * 129, "a length with a zero in front"),
        (b"\x02\x80\x01\x00\x00", "a length without end"),
        (b"\x02\x85\x01\x00\x00\x00\x00", "a length beyond all bounds"),
        (b"\x02\x00", "a number without digits"),
        (b"\x02\x02\x00\x01", "a number with a zero in front"),
        (b"\x02\x02\xff\x80", "a negative number with a digit too many"),
        (b"\x04\x01\x00", "something else than a number"),
    ],
)
def test_a_number_written_otherwise_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(EvidenceError):
        read(data).integer()


def test_what_is_left_over_is_refused() -> None:
    reader = read(integer(1) + b"\0")
    reader.integer()
    with pytest.raises(EvidenceError, match="too many"):
        reader.end()


@pytest.mark.parametrize("body", [b"\x01", b"", b"\0\0"])
def test_a_truth_value_is_one_of_two_bytes(body: bytes) -> None:
    with pytest.raises(EvidenceError):
        read(tlv(BOOLEAN, body)).boolean()


@pytest.mark.parametrize(
    "body", [b"", b"\x2a\x80\x01", b"\x2a\x83", b"\x2a" + b"\xff" * 12 + b"\1"]
)
def test_an_object_identifier_has_one_form(body: bytes) -> None:
    with pytest.raises(EvidenceError):
        read(tlv(0x06, body)).oid()


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x17, b"240230000000Z"),
        (0x17, b"2401010000Z"),
        (0x17, b"240101000000+"),
        (0x18, b"20240101000060Z"),
        (0x18, b"00000101000000Z"),
        (0x17, b"24010100000 Z"),
        (NULL, b""),
    ],
)
def test_a_time_that_is_none_is_refused(tag: int, text: bytes) -> None:
    with pytest.raises(EvidenceError):
        read(tlv(tag, text)).time()


def test_errors_name_kind_and_field() -> None:
    with pytest.raises(EvidenceError) as caught:
        read(tlv(SEQUENCE, integer(1))).enter(SEQUENCE, "inner").bytes_of(OCTET_STRING)
    assert caught.value.diagnostics() == {
        "code": "evidence_malformed",
        "message": caught.value.message,
        "kind": "test",
        "field": "inner",
    }
    assert caught.value.message.startswith("test: inner:")


def test_a_tag_of_several_bytes_is_refused() -> None:
    with pytest.raises(EvidenceError):
        read(b"\x1f\x81\x01\x00").any()
    assert read(integer(5)).any().tag == INTEGER
