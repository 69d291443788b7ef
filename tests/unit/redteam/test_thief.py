"""What the thief's bytes are made of, and how his receiver knows them again."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gate.worlds import INNER_V4, INNER_V6, OUTSIDE_V4, OUTSIDE_V6
from tidegate.redteam import thief, thief_frames
from tidegate.redteam.thief_catalogue import ATTACKS
from tidegate.redteam.thief_kit import Kit
from tidegate.redteam.thief_receiver import Listener, read_symbols
from tidegate.redteam.thief_secret import HEADER, MARK, SIZE, Puzzle, information, piece, secret
from tidegate.redteam.thief_sockets import STEP_S, TICK_S, query, symbol, ticking

SECRET = secret()


@given(
    st.integers(0, 2 * SIZE),
    st.integers(HEADER + 1, 1_500),
    st.binary(max_size=80),
    st.binary(max_size=20),
)
def test_a_piece_is_found_wherever_it_stands_in_a_frame(
    offset: int, length: int, before: bytes, behind: bytes
) -> None:
    puzzle = Puzzle()
    puzzle.frame(before + piece(SECRET, offset, length) + behind)
    assert puzzle.bytes_known() >= length - HEADER


@given(st.binary(min_size=HEADER + 8, max_size=200))
def test_noise_is_not_taken_for_the_secret(noise: bytes) -> None:
    puzzle = Puzzle()
    puzzle.frame(MARK + b"\0\0\1\0" + noise)
    assert puzzle.bytes_known() <= 4


def test_bytes_that_arrive_twice_count_once() -> None:
    puzzle = Puzzle()
    for _ in range(2):
        puzzle.stream(100, SECRET[100:400])
    puzzle.stream(300, SECRET[300:500])
    assert puzzle.bytes_known() == 400


def test_a_wrong_byte_ends_what_is_right() -> None:
    puzzle = Puzzle()
    data = bytearray(SECRET[:100])
    data[60] ^= 1
    puzzle.stream(0, bytes(data))
    assert puzzle.bytes_known() == 60


def test_every_label_of_a_question_carries_its_piece() -> None:
    puzzle = Puzzle()
    asked = query(Kit(1.0), 7)
    puzzle.frame(asked)
    assert puzzle.bytes_known() == 3 * (63 - HEADER) + 59 - HEADER
    assert len(asked) - 12 - 4 == 253, "a name has 253 bytes at most, its end included"


@pytest.mark.parametrize(("source", "to"), [(INNER_V4, OUTSIDE_V4), (INNER_V6, OUTSIDE_V6)])
def test_checksums_are_those_that_a_kernel_takes(source: str, to: str) -> None:
    datagram = thief_frames.udp(source, to, (1, 53), b"odd")
    # With its own sum in place, a right checksum comes out as zero.
    pseudo = thief_frames.pseudo_header(source, to, thief_frames.UDP, len(datagram))
    assert thief_frames.checksum(pseudo + datagram) == 0
    segment = thief_frames.tcp(source, to, (1, 443), b"x", sequence=5, flags=2)
    pseudo = thief_frames.pseudo_header(source, to, thief_frames.TCP, len(segment))
    assert thief_frames.checksum(pseudo + segment) == 0
    if ":" not in to:
        assert thief_frames.checksum(thief_frames.ipv4(source, to, 17, b"")) == 0


@given(st.binary(max_size=3_000))
def test_an_options_header_is_as_long_as_it_says(carried: bytes) -> None:
    header = thief_frames.options_header(17, carried)
    assert len(header) == 8 * (header[1] + 1)
    at = 2
    while at < len(header):
        at += 1 if header[at] == 0 else 2 + header[at + 1]
    assert at == len(header)


def test_a_stream_that_greets_as_ssh_does_is_put_together() -> None:
    listener = Listener()
    stream = listener.stream()
    data = b"SSH-2.0-x\r\n" + (1_000).to_bytes(4, "big") + SECRET[1_000:1_900]
    for start in range(0, len(data), 7):
        stream.take(data[start : start + 7])
    assert listener.puzzle.bytes_known() == 900


def test_whom_the_gate_asks_for_is_read_as_bytes() -> None:
    listener = Listener()
    asked = (5_000).to_bytes(3, "big") + SECRET[5_000:5_005]
    target = bytes.fromhex("fd81000200000000") + asked
    packet = thief_frames.ipv6(
        INNER_V6, OUTSIDE_V6, 58, struct.pack("!BBHI", 135, 0, 0, 0) + target
    )
    listener.frame(thief_frames.ethernet(bytes(6), bytes(6), thief_frames.IPV6, packet), 0)
    assert listener.puzzle.bytes_known() == 5


def test_delays_are_read_back_as_the_symbols_they_mean() -> None:
    moment, ticks = 0.0, []
    for number in range(50):
        moment += TICK_S + STEP_S * symbol(number)
        ticks.append((number, int(moment * 1e9)))
    assert all(read == meant for read, meant in read_symbols(ticks))
    del ticks[20]
    assert len(list(read_symbols(ticks))) == 47, "across a gap nothing can be read"


def test_a_listener_counts_bits_that_came_by_time() -> None:
    listener = Listener()
    moment = 0.0
    for number in range(101):
        moment += TICK_S + STEP_S * symbol(number)
        listener.frame(bytes(42) + ticking(number), int(moment * 1e9))
    assert listener.timing_bits() == pytest.approx(300)


@given(st.integers(1, 1_000), st.integers(2, 64), st.floats(0, 1))
def test_information_is_never_more_than_was_said(symbols: int, alphabet: int, bad: float) -> None:
    assert 0 <= information(symbols, int(bad * symbols), alphabet) <= symbols * math.log2(alphabet)


def test_guessing_carries_no_information() -> None:
    assert information(800, 700, 8) == pytest.approx(0, abs=1e-6)
    assert information(800, 0, 8) == pytest.approx(2_400)


def test_quotas_of_the_attacked_policy_add_up_to_more_than_the_lifetime() -> None:
    rules = thief.policy(90_000)
    assert sum(one.quota for one in rules.classes.values()) > rules.lifetime


def test_every_attack_is_held_against_classes_that_there_are() -> None:
    rules = thief.policy()
    assert {name for attack in ATTACKS for name in attack.classes} <= set(rules.classes)
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
