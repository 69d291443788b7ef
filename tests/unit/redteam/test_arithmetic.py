"""The attackers' arithmetic code: what is received is what was sent, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.redteam.arithmetic import PRECISION, Law, Listener, Writer

shares = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40).filter(lambda xs: sum(xs) > 1e-6)


@settings(max_examples=60)
@given(laws=st.lists(shares, min_size=1, max_size=30), stream=st.integers(-5, 50))
def test_the_receiver_gets_what_the_tokens_say(laws: list[list[float]], stream: int) -> None:
    writer, listener = Writer(stream, len(laws)), Listener(stream)
    sent = 0.0
    for one in laws:
        law = Law.of(np.arange(len(one)), np.array(one))
        token, bits = writer.choose(law)
        listener.hear(law, token)
        sent += bits
    received, wrong = listener.tally()
    assert wrong == 0
    # An interval may straddle a power of two, so a few bits stay open; none is made up.
    assert received <= math.ceil(sent)


def test_nearly_all_bits_arrive_in_a_long_answer() -> None:
    law = Law.of(np.arange(64), np.ones(64))
    writer, listener = Writer(3, 200), Listener(3)
    for _ in range(200):
        listener.hear(law, writer.choose(law)[0])
    assert listener.tally() == (pytest.approx(1200, abs=8), 0)


def test_a_token_that_the_law_has_no_place_for_ends_the_reading() -> None:
    law = Law.of(np.array([4, 5]), np.ones(2))
    listener = Listener(0)
    listener.hear(law, 9)
    assert listener.lost
    assert listener.tally() == (0, 0)


def test_tokens_somebody_else_chose_say_wrong_bits() -> None:
    law = Law.of(np.arange(16), np.ones(16))
    listener = Listener(1)
    for _ in range(100):
        listener.hear(law, 7)
    bits, wrong = listener.tally()
    assert bits >= 380
    assert wrong > bits / 3


def test_frequencies_are_positive_and_fill_the_range() -> None:
    law = Law.of(np.array([3, 1, 2]), np.array([0.0, 1.0, 1e-12]))
    assert int(law.ends_K[-1]) == 1 << PRECISION
    assert all(law.span(place)[1] >= 1 for place in range(3))
    assert law.bits(1) == pytest.approx(0.0, abs=1e-6)
