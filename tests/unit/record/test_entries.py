"""An entry has one spelling, and nothing else is read as one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_world import PARAMS, STACK, beginning

from tidegate.errors import RecordError
from tidegate.record.entries import (
    MAX_TOKENS,
    Begin,
    Does,
    End,
    Entry,
    Gap,
    Open,
    Prefill,
    Reason,
    Tokens,
    encode,
    params_of,
    parse,
)
from tidegate.record.private import Private, pack, unpack

whole = st.integers(0, 2**63 - 1)
count = st.integers(0, MAX_TOKENS)
ids = st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=20).map(tuple)
does = st.one_of(
    st.just(Open(STACK)),
    st.just(beginning()),
    st.builds(Prefill, whole, st.just("0f" * 16), whole, whole, st.integers(0, 63), count, ids),
    st.builds(Tokens, whole, count, st.none() | whole, ids),
    st.builds(End, whole, st.sampled_from(Reason), st.just("link_error"), count, whole),
    st.builds(Gap, whole, whole),
)


@given(whole, whole, does)
def test_what_is_written_is_read_back(n: int, time: int, done: Does) -> None:
    try:
        raw = encode(Entry(n, time, done))
    except RecordError:
        assert isinstance(done, Prefill)
        assert max(done.chunks) > MAX_TOKENS
        return
    assert parse(raw) == Entry(n, time, done)


RAW = encode(Entry(3, 9, Tokens(1, 0, None, (5, 6))))


@pytest.mark.parametrize(
    "other",
    [
        RAW + b" ",
        RAW.replace(b'"n":3', b'"n": 3'),
        RAW.replace(b'"n":3', b'"n":03'),
        RAW.replace(b'"n":3', b'"n":3.0'),
        RAW.replace(b'"n":3', b'"n":-3'),
        RAW.replace(b'"n":3,"time":9', b'"time":9,"n":3'),
        RAW.replace(b'"step":null,', b""),
        RAW.replace(b"[5,6]", b"[]"),
        RAW.replace(b"[5,6]", b"[16777216]"),
        RAW.replace(b"[5,6]", b"[NaN]"),
        RAW.replace(b'"kind":"tokens"', b'"kind":"text"'),
        RAW[:-1],
        b"",
        b"null",
        b"\xff",
    ],
)
def test_another_spelling_is_no_entry(other: bytes) -> None:
    with pytest.raises(RecordError):
        parse(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request", ""),
        ("request", 'a"b'),
        ("request", "a\nb"),
        ("request", "ab\n"),
        ("principal", "a" * 257),
        ("seed", "A" * 64),
        ("seed", "a" * 64 + "\n"),
        ("lora", "a"),
        ("key", "a" * 15),
        ("params", "abc"),
        ("max_tokens", 0),
        ("max_tokens", MAX_TOKENS + 1),
        ("candidates", 65),
        ("attempt", -1),
        ("choice", 2**63),
        ("private", b"x" * ((1 << 20) + 1)),
        ("seed", None),
    ],
)
def test_a_field_out_of_range_is_not_recorded(field: str, value: object) -> None:
    with pytest.raises(RecordError):
        encode(Entry(0, 0, msgspec.structs.replace(beginning(), **{field: value})))


def test_the_longest_prompt_fits_into_an_entry() -> None:
    longest = pack(Private(bytes(32), (2**24 - 1,) * MAX_TOKENS, ("é" * 256,) * 16, -(2**63)))
    begin = msgspec.structs.replace(beginning(), private=longest, prompt_tokens=MAX_TOKENS)
    read = parse(encode(Entry(0, 0, begin))).does
    assert isinstance(read, Begin)
    assert unpack(read.private).prompt == (2**24 - 1,) * MAX_TOKENS


def test_parameters_are_the_bytes_that_the_seed_is_bound_to() -> None:
    assert params_of(beginning()) == PARAMS
    for other in ("00", PARAMS.canonical().hex() + "00", "ff" * 64):
        with pytest.raises(RecordError):
            params_of(msgspec.structs.replace(beginning(), params=other))


@pytest.mark.parametrize(
    "private",
    [
        Private(bytes(31), (1,), (), None),
        Private(bytes(32), (), (), None),
        Private(bytes(32), (2**24,), (), None),
        Private(bytes(32), (1,), ("x" * 257,), None),
        Private(bytes(32), (1,), ("x",) * 17, None),
        Private(bytes(32), (1,), (), 2**64),
    ],
)
def test_what_is_private_and_out_of_range_is_not_recorded(private: Private) -> None:
    with pytest.raises(RecordError):
        pack(private)


@pytest.mark.parametrize("raw", [b"", b"\x90", b"\xc0", pack(Private(bytes(32), (1,), (), 3))[:-1]])
def test_bytes_that_are_not_what_is_private_are_refused(raw: bytes) -> None:
    with pytest.raises(RecordError):
        unpack(raw)
