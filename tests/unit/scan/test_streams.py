"""Streams from packets: order, holes, repetition and the bound on memory."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tidegate.scan.packets import TCP, UDP, Flow, Packet
from tidegate.scan.streams import REPEATED, Streams

_FLOW = Flow(TCP, b"\x0a\x00\x00\x01", 4000, b"\x0a\x00\x00\x02", 443)


def _segment(sequence: int, data: bytes, *, begins: bool = False) -> Packet:
    return Packet(_FLOW, data, sequence % (1 << 32), begins=begins)


def _text(pieces: list[bytes]) -> bytes:
    return b"".join(pieces)


@given(st.binary(min_size=1, max_size=60), st.integers(0, (1 << 32) - 1), st.data())
def test_any_order_gives_the_bytes_that_were_sent(
    said: bytes, start: int, data: st.DataObject
) -> None:
    cuts = sorted({0, len(said), *data.draw(st.lists(st.integers(0, len(said)), max_size=6))})
    parts = [_segment(start + 1 + low, said[low:high]) for low, high in pairwise(cuts)]
    streams = Streams()
    streams.feed(_segment(start, b"", begins=True))
    heard = [piece for part in data.draw(st.permutations(parts)) for piece in streams.feed(part)]
    assert _text([piece.data for piece in heard]) == said
    assert [piece.offset for piece in heard] == [
        sum(len(earlier.data) for earlier in heard[:n]) for n in range(len(heard))
    ]


def test_a_retransmission_that_says_something_new_is_seen_saying_it() -> None:
    streams = Streams()
    streams.feed(_segment(10, b"honest"))
    (again,) = streams.feed(_segment(10, b"weight"))
    assert (again.flow.kind, again.data) == (REPEATED, b"weight")
    repeated, fresh = streams.feed(_segment(14, b"stuff"))
    assert (repeated.flow.kind, repeated.data) == (REPEATED, b"st")
    assert (fresh.flow, fresh.offset, fresh.data) == (_FLOW, 6, b"uff")


def test_what_is_said_again_behind_a_hole_is_seen_too() -> None:
    streams = Streams()
    streams.feed(_segment(0, b"a"))
    assert streams.feed(_segment(5, b"honest")) == ()
    (again,) = streams.feed(_segment(5, b"weight"))
    assert (again.flow.kind, again.data) == (REPEATED, b"weight")
    assert streams.feed(_segment(9, b"stuff")) == ()
    pieces = streams.close()
    said = [(piece.flow.kind, piece.data) for piece in pieces]
    assert said == [(TCP, b"honest"), (REPEATED, b"st"), (TCP, b"uff")]


def test_many_small_segments_behind_a_hole_are_not_waited_for() -> None:
    streams = Streams()
    streams.feed(_segment(0, b"a"))
    heard = [piece for n in range(3_000) for piece in streams.feed(_segment(10 + 2 * n, b"x"))]
    assert len(heard) >= 1_900


def test_a_hole_is_skipped_once_too_much_waits_behind_it_and_counted() -> None:
    streams = Streams(most_held=8)
    streams.feed(_segment(0, b"a"))
    assert streams.feed(_segment(5, b"12345678")) == ()
    skipped = streams.feed(_segment(13, b"9"))
    assert _text([piece.data for piece in skipped]) == b"123456789"
    assert skipped[0].missed == 4


def test_what_waits_at_the_end_is_given_out() -> None:
    streams = Streams()
    streams.feed(_segment(0, b"a"))
    streams.feed(_segment(5, b"late"))
    (piece,) = streams.close()
    assert (piece.data, piece.missed) == (b"late", 4)


def test_datagrams_come_in_order_of_arrival() -> None:
    streams = Streams()
    flow = Flow(UDP, b"\x0a\x00\x00\x01", 1, b"\x0a\x00\x00\x02", 53)
    offsets = [streams.feed(Packet(flow, data))[0].offset for data in (b"abc", b"de")]
    assert offsets == [0, 3]
    assert streams.feed(Packet(flow, b"")) == ()


def test_the_flow_that_was_silent_longest_is_forgotten_first() -> None:
    streams = Streams(most_flows=2)
    flows = [Flow(UDP, bytes(4), port, bytes(4), 53) for port in (1, 2, 3)]
    for flow in flows[:2] + flows[:1] + flows[2:]:
        streams.feed(Packet(flow, b"x"))
    assert streams.forgotten == [flows[1]]
