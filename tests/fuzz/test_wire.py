"""Invariant: whatever arrives, an end of the link either takes it as its table says or is broken
for good, holds no more than its limits, and takes the same events however the bytes are cut."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import ProtocolViolationError
from tidegate.wire.connection import Connection, Event, Link, Role, advance
from tidegate.wire.messages import MAX_MESSAGE, PREFIX, Echo, Hello, Message, Pull, Step, encode

HELLO = Hello(1, bytes(16), bytes(16), "t", "w", "c", (0,), True)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=33)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)
HONEST: st.SearchStrategy[Message] = st.one_of(
    st.just(HELLO),
    st.integers(0, 3).map(lambda number: Step(number, 0)),
    st.integers(1, 5).map(Pull),
    st.integers(0, 3).map(lambda number: Echo(number, bytes(16))),
)


def _framed(value: object) -> bytes:
    body = msgspec.msgpack.encode(value)
    return len(body).to_bytes(PREFIX, "big") + body


CHUNKS = st.one_of(
    HONEST.map(encode),
    st.lists(VALUES, max_size=9).map(_framed),
    st.builds(lambda kind, rest: _framed([kind, *rest]), st.integers(0, 7), st.lists(VALUES)),
    st.binary(max_size=40),
    st.integers(0, 2**32 - 1).map(lambda size: size.to_bytes(PREFIX, "big")),
)


def _feed(role: Role, asked: tuple[Message, ...], parts: list[bytes]) -> tuple[list[Event], bool]:
    """The events taken, and whether the connection broke."""
    connection = Connection(role)
    for message in asked:
        connection.send(message)
    events: list[Event] = []
    for part in parts:
        try:
            connection.receive(part)
            while (event := connection.next_event()) is not None:
                events.append(event)
            assert len(connection._buffer) <= PREFIX + MAX_MESSAGE
        except ProtocolViolationError:
            return events, _stays_broken(connection)
    return events, False


def _stays_broken(connection: Connection) -> bool:
    for again in (lambda: connection.receive(b""), connection.next_event):
        try:
            again()
        except ProtocolViolationError:
            continue
        return False
    return not connection._buffer


@settings(max_examples=300)
@given(chunks=st.lists(CHUNKS, max_size=8), cut=st.integers(1, 50))
def test_an_inner_end_takes_what_the_table_allows_or_breaks(chunks: list[bytes], cut: int) -> None:
    data = b"".join(chunks)
    events, broken = _feed(Role.INNER, (), [data])
    link = Link()
    for event in events:
        link = advance(link, event)
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    again, broken_again = _feed(Role.INNER, (), pieces)
    assert again == events
    assert broken_again == broken


@settings(max_examples=200)
@given(sizes=st.lists(st.integers(1, 20), max_size=6), data=st.binary(max_size=120))
def test_an_outer_end_takes_the_frames_it_asked_for_or_breaks(
    sizes: list[int], data: bytes
) -> None:
    asked: tuple[Message, ...] = (HELLO, Step(0, 0), *map(Pull, sizes))
    events, broken = _feed(Role.OUTER, asked, [data])
    assert broken == (len(data) > sum(sizes))
    if not broken:
        whole = [event.data for event in events]  # type: ignore[union-attr]
        assert b"".join(whole) == data[: sum(map(len, whole))]
        assert list(map(len, whole)) == sizes[: len(whole)]
