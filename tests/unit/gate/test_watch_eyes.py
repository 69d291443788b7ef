"""Frames to sightings: whichever way the bytes are cut, and with the time of the first of them."""

from __future__ import annotations

import ipaddress
import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gate.watch_eyes import PIECES, QUIET_NS, Eyes, Seen
from tidegate.scan.fingerprint import Matcher, Tensor
from tidegate.scan.fingerprint_make import make
from tidegate.scan.sighting import Kind
from tidegate.scan.stream import Settings

_A, _B = "10.81.1.2", "10.81.2.2"
_STEP = 1_000_000


def _weights(count: int) -> bytes:
    drawn = np.random.default_rng(7).standard_normal(count // 2) * 0.02
    return (drawn.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


def _text(count: int) -> bytes:
    drawn = random.Random(3)
    words = ["the", "gate", "keeps", "what", "users", "ask", "and", "answers", "are", "short"]
    said = " ".join(drawn.choice(words) for _ in range(count))
    return said.encode()[:count]


def _frame(payload: bytes, sequence: int, *, source: str = _A, port: int = 4000, flags: int = 16):
    tcp = struct.pack(">HHIIBBHHH", port, 443, sequence, 0, 0x50, flags, 0, 0, 0) + payload
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(_B).packed
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0)
    return bytes(12) + b"\x08\x00" + head + ends + tcp


def _sent(eyes: Eyes, payload: bytes, *, size: int = 1400, port: int = 4000, at: int = 0):
    seen: list[Seen] = []
    for number, start in enumerate(range(0, len(payload), size)):
        frame = _frame(payload[start : start + size], 1000 + start, port=port)
        seen += eyes.feed(frame, at + number * _STEP)
    return seen


def _eyes(**options: int) -> Eyes:
    return Eyes(Settings(block=1 << 14), **options)


def test_weights_in_a_flow_are_seen_with_the_time_of_their_first_byte() -> None:
    eyes = _eyes()
    honest, stolen = _text(28_000), _weights(64_000)
    seen = _sent(eyes, honest + stolen)
    assert seen
    first = seen[0]
    began = len(honest) // 1400 * _STEP
    assert abs(first.first_ns - began) <= 13 * _STEP  # within a block of 16 KiB
    assert first.at_ns - first.first_ns <= 26 * _STEP
    assert str(first.flow).startswith("tcp 10.81.1.2")
    seen += eyes.close()
    assert sum(one.fresh for one in seen) <= len(honest + stolen)


def test_a_piece_of_the_own_model_is_named_with_shard_and_offset() -> None:
    own, key = _weights(1 << 20), bytes(range(16))
    tensor = Tensor("mlp.weight", "model.safetensors", 800, 2)
    known = make("ours", [(tensor, own)], key)
    eyes = Eyes(Settings(matcher=Matcher(known), block=1 << 14))
    begin = 300_000
    seen = _sent(eyes, own[begin : begin + 130_000]) + list(eyes.close())
    named = [one.sighting for one in seen if one.sighting.kind is Kind.OWN_WEIGHTS]
    assert named
    place = named[0].weight
    assert place is not None
    assert (place.model, place.shard, place.tensor) == ("ours", "model.safetensors", "mlp.weight")
    assert abs(place.offset - (800 + begin)) <= 1 << 14


def test_honest_text_is_not_seen() -> None:
    eyes = _eyes()
    assert _sent(eyes, _text(100_000)) == []
    assert eyes.close() == ()


def test_a_payload_cut_into_small_connections_is_still_seen() -> None:
    eyes, stolen, seen = _eyes(), _weights(96_000), []
    for number, start in enumerate(range(0, len(stolen), 1000)):
        port = 5000 + number
        at = number * 10 * QUIET_NS
        eyes.feed(_frame(stolen[start : start + 1000], 1, port=port), at)
        seen += eyes.settle(at + 5 * QUIET_NS)
        seen += eyes.feed(_frame(b"", 1001, port=port, flags=17), at + 6 * QUIET_NS)
    assert any(one.flow.kind == PIECES for one in seen)


def test_a_flow_that_falls_silent_is_judged_on_what_it_said() -> None:
    eyes = _eyes()
    assert _sent(eyes, _weights(8_000)) == []
    assert eyes.settle(QUIET_NS // 2) == ()
    assert eyes.settle(2 * QUIET_NS)


def test_other_peoples_frames_are_not_looked_at() -> None:
    inside = (ipaddress.ip_network("10.81.1.0/24"),)
    eyes = Eyes(Settings(block=1 << 14), inside)
    stolen = _weights(40_000)
    for start in range(0, len(stolen), 1000):
        assert eyes.feed(_frame(stolen[start : start + 1000], start, source="10.9.9.9"), 0) == ()
    assert eyes.frames == 0


@pytest.mark.parametrize("kind", [b"\x88\xb5", b"\x08\x06"])
def test_raw_frames_are_looked_at_whatever_their_kind(kind: bytes) -> None:
    eyes, stolen, seen = _eyes(), _weights(40_000), []
    for start in range(0, len(stolen), 1000):
        seen += eyes.feed(bytes(12) + kind + stolen[start : start + 1000], start)
    assert seen or eyes.close()


def test_many_flows_take_bounded_memory() -> None:
    eyes = _eyes(most_flows=8)
    for port in range(200):
        eyes.feed(_frame(b"x" * 100, 1, port=1 + port), port)
    assert len(eyes._flows) <= 9


@given(st.lists(st.binary(max_size=120), max_size=20), st.sampled_from([b"\x08\x00", b"\x86\xdd"]))
def test_no_frames_whatever_break_the_watch(bodies: list[bytes], kind: bytes) -> None:
    eyes = _eyes(most_flows=2)
    for at, body in enumerate(bodies):
        eyes.feed(bytes(12) + kind + body, at)
    eyes.settle(len(bodies) + 2 * QUIET_NS)
    eyes.close()
