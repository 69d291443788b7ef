"""The format and the states of the link, by the vectors in `spec/vectors/wire.json`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ProtocolViolationError
from tidegate.sampling.params import SamplingParams
from tidegate.wire.connection import (
    MAX_OWED,
    TRANSITIONS,
    Connection,
    Frame,
    Link,
    Role,
    advance,
)
from tidegate.wire.messages import (
    MAX_FRAME,
    MAX_MESSAGE,
    PREFIX,
    Bye,
    Echo,
    Hello,
    Message,
    Params,
    Pull,
    Resume,
    Step,
    decode,
    encode,
)

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "spec" / "vectors" / "wire.json").read_text()
)
GREETING = Hello(1, bytes(16), bytes(16), "t", "w", "c", (0,), False)


def body(data: str) -> bytes:
    raw = bytes.fromhex(data)
    assert int.from_bytes(raw[:PREFIX], "big") == len(raw) - PREFIX
    return raw[PREFIX:]


def inner(*parts: bytes) -> Connection:
    connection = Connection(Role.INNER)
    for part in parts:
        connection.receive(part)
        while connection.next_event() is not None:
            pass
    return connection


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["prose"])
def test_a_message_is_these_bytes(case: dict[str, Any]) -> None:
    message = decode(body(case["bytes"]))
    assert encode(message).hex() == case["bytes"]
    elements = msgspec.msgpack.decode(body(case["bytes"]))
    assert json.loads(json.dumps(elements, default=bytes.hex)) == case["message"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["prose"])
def test_a_malformed_message_is_refused(case: dict[str, Any]) -> None:
    connection = inner(encode(GREETING))
    connection.receive(bytes.fromhex(case["bytes"]))
    with pytest.raises(ProtocolViolationError):
        connection.next_event()
    with pytest.raises(ProtocolViolationError):
        connection.receive(encode(Bye()))


@pytest.mark.parametrize("case", VECTORS["sessions"], ids=lambda case: case["prose"])
def test_a_session_goes_as_far_as_the_table_says(case: dict[str, Any]) -> None:
    link = Link()
    for number, event in enumerate(case["events"]):
        step = (
            Frame(bytes.fromhex(event["frame"]))
            if "frame" in event
            else decode(body(event["message"]))
        )
        if number == case["accepted"]:
            with pytest.raises(ProtocolViolationError):
                advance(link, step)
            return
        link = advance(link, step)
    assert case["accepted"] == len(case["events"])


def test_every_phase_has_a_row_and_done_has_no_way_back() -> None:
    phases = set(TRANSITIONS)
    assert {after for row in TRANSITIONS.values() for after in row.values()} <= phases
    (done,) = [phase for phase in phases if phase.value == "done"]
    assert set(TRANSITIONS[done].values()) == {done}


@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_messages_arrive_whole_however_they_are_cut(cuts: list[int]) -> None:
    sent: list[Message] = [GREETING, Step(0, 0), Pull(3), Step(1, 0, (4,)), Bye()]
    data = b"".join(map(encode, sent))
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    connection = Connection(Role.INNER)
    got = []
    for start, end in itertools.pairwise(places):
        connection.receive(data[start:end])
        while (event := connection.next_event()) is not None:
            got.append(event)
    assert got == sent


def test_both_ends_come_to_the_same_state() -> None:
    outer, far = Connection(Role.OUTER), Connection(Role.INNER)
    for message in (GREETING, Step(0, 0), Pull(2), Pull(1)):
        far.receive(outer.send(message))
        assert far.next_event() == message
    outer.receive(far.send(Frame(b"ab")) + far.send(Frame(b"c")))
    assert outer.next_event() == Frame(b"ab")
    assert outer.next_event() == Frame(b"c")
    assert outer.next_event() is None
    assert outer.link == far.link


def test_no_half_says_what_is_the_others() -> None:
    with pytest.raises(ProtocolViolationError):
        Connection(Role.OUTER).send(Frame(b""))
    with pytest.raises(ProtocolViolationError):
        Connection(Role.INNER).send(GREETING)


def test_a_frame_of_another_size_is_never_sent() -> None:
    connection = inner(encode(GREETING), encode(Step(0, 0)), encode(Pull(2)))
    with pytest.raises(ProtocolViolationError):
        connection.send(Frame(b"abc"))


def test_bytes_that_were_not_asked_for_are_refused_at_once() -> None:
    outer = Connection(Role.OUTER)
    for message in (GREETING, Step(0, 0), Pull(2)):
        outer.send(message)
    with pytest.raises(ProtocolViolationError):
        outer.receive(b"abc")


def test_pulls_cannot_pile_up() -> None:
    connection = inner(encode(GREETING), encode(Pull(1)) * MAX_OWED)
    connection.receive(encode(Pull(1)))
    with pytest.raises(ProtocolViolationError):
        connection.next_event()


def test_a_long_message_is_refused_before_it_is_stored() -> None:
    connection = Connection(Role.INNER)
    connection.receive((MAX_MESSAGE + 1).to_bytes(PREFIX, "big"))
    with pytest.raises(ProtocolViolationError):
        connection.next_event()


def test_what_the_receiver_would_refuse_is_not_sent() -> None:
    for message in (Pull(0), Pull(MAX_FRAME + 1), Resume(0, 0), Echo(1, b"short")):
        with pytest.raises(ProtocolViolationError):
            encode(message)


def test_an_error_does_not_quote_the_message() -> None:
    step = msgspec.msgpack.encode([2, 0, 0, [], [[0, ["a secret prompt"]]]])
    with pytest.raises(ProtocolViolationError) as caught:
        decode(step)
    assert "secret" not in str(caught.value.diagnostics())


def test_parameters_survive_the_wire() -> None:
    params = SamplingParams(
        temperature=0.3, top_k=5, top_p=0.5, min_p=0.1, logit_bias=((1, -2.0), (9, 4.5))
    )
    assert Params.of(params).value() == params
