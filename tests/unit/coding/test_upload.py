"""The frames' own rules: what is refused, what a long or an idle link keeps in memory."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.coding.candidates import CANDIDATES, no_candidates
from tidegate.coding.upload import (
    ABORT,
    MAX_CHOICES,
    MAX_TOKEN_BITS,
    MAX_VOCAB,
    UploadDecoder,
    UploadEncoder,
)
from tidegate.errors import LinkError, NonCanonicalError
from tidegate.sampling.gumbel import Ranking

BLIND = no_candidates()
VOCAB = 65_532  # with the controls 2**16: a bare number costs 16 bits and a little


def ranking(count: int) -> Ranking:
    ids = np.arange(count, dtype=np.int32)
    return Ranking(ids, ids * 4096, ids * 4096, greedy=False)


@pytest.mark.parametrize("vocab_size", [0, -1, MAX_VOCAB + 1])
@pytest.mark.parametrize("side", [UploadEncoder, UploadDecoder])
def test_a_vocabulary_the_number_code_cannot_hold_is_refused(side, vocab_size):
    with pytest.raises(ValueError, match="vocabulary"):
        side(vocab_size)


@pytest.mark.parametrize("token", [-1, VOCAB, VOCAB + 1])
def test_a_token_outside_the_vocabulary_is_never_sent(token):
    with pytest.raises(ValueError, match="outside"):
        UploadEncoder(VOCAB).put_token(BLIND, token)


def overlong() -> list[Ranking]:
    short = np.arange(3, dtype=np.int32)
    return [
        ranking(CANDIDATES + 1),
        Ranking(np.arange(4, dtype=np.int32), short, short, greedy=False),
        Ranking(short, np.arange(3, dtype=np.int64), short, greedy=False),
        Ranking(short, short, short[:2], greedy=False),
    ]


@pytest.mark.parametrize("case", range(4))
def test_candidates_that_would_overrun_the_kernel_are_refused(case):
    cand = overlong()[case]
    with pytest.raises(ValueError, match="equal length"):
        UploadEncoder(VOCAB).put_token(cand, 0)
    with pytest.raises(ValueError, match="equal length"):
        UploadDecoder(VOCAB).get_token(cand)


@pytest.mark.parametrize("count", [0, -1, MAX_CHOICES + 1])
def test_a_choice_among_none_or_too_many_is_refused(count):
    with pytest.raises(ValueError, match="choice"):
        UploadEncoder(VOCAB).put_choice(0, count)
    with pytest.raises(ValueError, match="choice"):
        UploadDecoder(VOCAB).get_choice(count)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_choice_that_is_not_among_them_is_refused(index):
    with pytest.raises(ValueError, match="choice"):
        UploadEncoder(VOCAB).put_choice(index, 3)


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_frame_is_refused(size):
    with pytest.raises(ValueError, match="frame"):
        UploadEncoder(VOCAB).take_frame(size)
    with pytest.raises(ValueError, match="pull"):
        UploadDecoder(VOCAB).pull(0, size)


def test_pulls_are_recorded_in_order():
    decoder = UploadDecoder(VOCAB)
    decoder.pull(3, 8)
    with pytest.raises(ValueError, match="order"):
        decoder.pull(2, 8)


@pytest.mark.parametrize("reserved", [1, 2, 3])
def test_reserved_control_codes_are_refused(reserved):
    encoder = UploadEncoder(VOCAB)
    encoder._put(BLIND, VOCAB + reserved)
    decoder = UploadDecoder(VOCAB)
    decoder.pull(0, 8)
    decoder.receive(encoder.take_frame(8))
    with pytest.raises(NonCanonicalError, match="reserved"):
        decoder.get_token(BLIND)


def test_an_abort_is_told_from_every_token():
    encoder, decoder = UploadEncoder(2), UploadDecoder(2)
    encoder.put_token(BLIND, 1)
    encoder.put_abort(BLIND)
    decoder.pull(0, 8)
    decoder.receive(encoder.take_frame(8))
    assert [decoder.get_token(BLIND), decoder.get_token(BLIND)] == [1, ABORT]


def test_a_late_dummy_after_the_last_symbol_is_checked_too():
    encoder, decoder = UploadEncoder(VOCAB), UploadDecoder(VOCAB)
    encoder.put_token(BLIND, 1)
    decoder.pull(0, 8)
    decoder.pull(0, 8)
    decoder.receive(encoder.take_frame(8))
    assert encoder.take_frame(8) == bytes(8)
    decoder.get_token(BLIND)
    decoder.end_step(0)
    with pytest.raises(NonCanonicalError):
        decoder.receive(bytes(7) + b"\x01")


def test_a_choice_among_one_costs_nothing_and_needs_no_byte():
    encoder, decoder = UploadEncoder(VOCAB), UploadDecoder(VOCAB)
    assert encoder.put_choice(0, 1) == 0
    assert decoder.get_choice(1) == 0
    assert encoder.take_frame(4) == bytes(4)


def test_certain_tokens_become_nearly_free():
    """The counters learn: a weak model that is always right costs a few hundredths of a bit."""
    encoder, cand = UploadEncoder(VOCAB), ranking(CANDIDATES)
    costs = [encoder.put_token(cand, 0) for _ in range(3000)]
    assert sum(costs[-1000:]) / 1000 / 65536 < 0.01


def test_no_token_costs_more_than_the_bound_after_the_worst_history():
    """After ten thousand perfect guesses a stranger arrives, in the largest vocabulary."""
    encoder, cand = UploadEncoder(MAX_VOCAB), ranking(CANDIDATES)
    for _ in range(10_000):
        encoder.put_token(cand, 0)
    for token in (MAX_VOCAB - 1, CANDIDATES - 1, 1):
        assert encoder.put_token(cand, token) <= MAX_TOKEN_BITS << 16


def carry(tokens: list[int], ends: tuple[int, ...]) -> list[int | None]:
    """Send tokens in segments that end without padding after `ends`, all frames before decoding."""
    encoder, decoder = UploadEncoder(VOCAB), UploadDecoder(VOCAB)
    frames, start = [], 0
    for step, end in enumerate((*ends, len(tokens))):
        for token in tokens[start:end]:
            encoder.put_token(BLIND, token)
        # One byte more than is settled ends the segment and leaves no room for padding.
        last = end == len(tokens)
        size = encoder.settled_bytes() + (8 if last else 1)
        decoder.pull(step, size)
        frames.append(encoder.take_frame(size))
        start = end
    for frame in frames:
        decoder.receive(frame)
    decoded, start = [], 0
    for step, end in enumerate((*ends, len(tokens))):
        decoded += [decoder.get_token(BLIND) for _ in range(start, end)]
        decoder.end_step(step)
        start = end
    return decoded


@pytest.mark.parametrize("over", [*range(-16, 8), 10_000])
def test_a_segment_longer_than_what_is_kept_decodes_into_the_next(over):
    """Around the length at which used bytes are dropped, the next segment begins right behind."""
    count = (1 << 16) // 2 + over
    tokens = np.random.default_rng(1).integers(0, VOCAB, count + 50).tolist()
    assert carry(tokens, (count,)) == tokens


def test_a_million_symbols_leave_nothing_behind():
    encoder, decoder = UploadEncoder(1000), UploadDecoder(1000)
    cand = ranking(4)
    most_bytes = 0
    for step in range(10_000):
        for i in range(100):
            encoder.put_token(cand, (step + i) & 1)
        size = max(encoder.settled_bytes(), 1)
        decoder.pull(step, size)
        decoder.receive(encoder.take_frame(size))
        for _ in range(100):
            if decoder.get_token(cand) is None:
                size = 8
                decoder.pull(step, size)
                decoder.receive(encoder.take_frame(size))
                assert decoder.get_token(cand) is not None
        decoder.end_step(step)
        most_bytes = max(most_bytes, len(decoder._bytes), encoder._native.encoder.capacity)
    assert most_bytes <= (1 << 16) + 1024
    assert not decoder._pulls
    assert not encoder._queue


def test_an_idle_link_keeps_no_dummies():
    decoder = UploadDecoder(VOCAB)
    for _ in range(1000):
        decoder.pull(-1, 64)
        decoder.receive(bytes(64))
    assert len(decoder._bytes) <= 64
    assert not decoder._pulls


def test_a_link_refused_once_stays_refused():
    decoder = UploadDecoder(VOCAB)
    decoder.pull(-1, 4)
    with pytest.raises(LinkError):
        decoder.receive(b"\x01\0\0\0")
    with pytest.raises(LinkError):
        decoder.pull(-1, 4)


def test_an_encoder_is_empty_once_all_it_was_told_has_been_framed():
    encoder = UploadEncoder(VOCAB)
    assert encoder.empty
    for token in (1, 2, 3):
        encoder.put_token(BLIND, token)
    assert not encoder.empty
    encoder.take_frame(1)
    assert not encoder.empty
    while not encoder.empty:
        encoder.take_frame(1)
    assert encoder.take_frame(4) == bytes(4)
    assert encoder.empty
    encoder.put_wait(ready=False)
    assert not encoder.empty
