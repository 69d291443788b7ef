"""The range coder ends with the fewest bytes, decodes eagerly, and matches an independent coder."""

from __future__ import annotations

import math

import constriction
import numpy as np
import pytest

from tidegate.coding.range_coder import FULL, MAX_TOTAL, SMALL, RangeDecoder, RangeEncoder, part


def encoded(symbols) -> bytes:
    coder = RangeEncoder()
    for symbol in symbols:
        coder.put(*symbol)
    coder.finish()
    return coder.take(coder.settled())


def test_a_segment_without_information_has_no_bytes():
    assert encoded([]) == b""
    assert encoded([(0, 1, 1)] * 100) == b""


def test_information_is_rounded_up_to_whole_bytes():
    assert encoded([(0, 1, 2)]) == b"\x00"
    assert encoded([(1, 1, 2)]) == b"\x80"
    assert encoded([(0x1234, 1, 65536)]) == b"\x12\x34"


@pytest.mark.parametrize(("start", "data"), [(0, b"\x7f" + b"\xff" * 24), (3, b"\x80" + bytes(24))])
def test_bytes_wait_while_a_carry_may_still_run_through_them(start, data):
    """The middle half, again and again: the number stays undecided between 7f ff ff… and 80 00…"""
    coder = RangeEncoder()
    for _ in range(200):
        coder.put(1, 2, 4)
        assert coder.settled() == 0
    coder.put(start, 1, 4)
    coder.put(0, 1, 65536)
    assert coder.settled() >= 25
    assert coder.take(25) == data


def test_shares_tile_the_interval():
    for width in (SMALL, SMALL + 1, FULL - 1, FULL):
        for total in (1, 2, 3, 65536, 151_940, MAX_TOTAL):
            ends = 0
            for start, count in ((0, total - 1), (total - 1, 1)):
                if count:
                    offset, size = part(width, start, count, total)
                    assert offset == ends
                    assert size >= 1
                    ends += size
            assert ends == width


@pytest.mark.parametrize(
    "share", [(0, 0, 2), (-1, 1, 2), (1, 2, 2), (2, 1, 2), (0, 1, MAX_TOTAL + 1), (0, 1, 0)]
)
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="slots"):
        RangeEncoder().put(*share)


def frequency_rows(rng, rows: int, size: int, bits: int) -> np.ndarray:
    """Integer frequencies [rows, size], at least 1, summing to 2**bits."""
    sharp = rng.normal(0, rng.uniform(0.5, 6, (rows, 1)), (rows, size))
    weights = np.exp(sharp - sharp.max(axis=1, keepdims=True))
    free = (1 << bits) - size
    rows_TV = 1 + np.floor(weights / weights.sum(axis=1, keepdims=True) * free).astype(np.int64)
    rows_TV[np.arange(rows), rows_TV.argmax(axis=1)] += (1 << bits) - rows_TV.sum(axis=1)
    return rows_TV


@pytest.mark.parametrize("size", [2, 50, 1000])
def test_an_independent_coder_needs_as_many_bytes_and_decodes_the_same(size):
    """constriction's range coder (32-bit words) over the same frequencies of 24 bits."""
    rng, bits, rows = np.random.default_rng(size), 24, 4000
    frequencies_TV = frequency_rows(rng, rows, size, bits)
    uniforms_T = rng.integers(0, 1 << bits, rows)
    ends_TV = frequencies_TV.cumsum(axis=1)
    tokens_T = (ends_TV <= uniforms_T[:, None]).sum(axis=1).astype(np.int32)

    family = constriction.stream.model.Categorical(perfect=False)
    peer = constriction.stream.queue.RangeEncoder()
    probabilities_TV = frequencies_TV / (1 << bits)
    peer.encode(tokens_T, family, probabilities_TV)
    words = peer.get_compressed()
    peer_tokens_T = constriction.stream.queue.RangeDecoder(words).decode(family, probabilities_TV)

    data = encoded(
        (int(ends[token] - row[token]), int(row[token]), 1 << bits)
        for ends, row, token in zip(ends_TV, frequencies_TV, tokens_T, strict=True)
    )
    decoder, decoded = RangeDecoder(), []
    decoder.feed(data)
    for ends, row in zip(ends_TV, frequencies_TV, strict=True):
        first, last = np.searchsorted(ends, decoder.slots(1 << bits), side="right")
        assert first == last
        decoder.narrow(int(ends[first] - row[first]), int(row[first]), 1 << bits)
        decoded.append(first)

    assert np.array_equal(decoded, tokens_T)
    assert np.array_equal(peer_tokens_T, tokens_T)
    assert abs(len(data) - 4 * len(words)) <= 4
    ideal = -np.log2(probabilities_TV[np.arange(rows), tokens_T]).sum() / 8
    assert ideal <= len(data) <= ideal + 2


def test_the_coder_loses_less_than_a_thousandth_of_a_bit_a_symbol():
    rng, symbols, ideal = np.random.default_rng(5), [], 0.0
    for _ in range(20_000):
        count = int(rng.integers(1, 65536))
        symbols.append((int(rng.integers(0, 65536 - count + 1)), count, 65536))
        ideal -= math.log2(count / 65536)
    assert ideal <= 8 * len(encoded(symbols)) <= ideal + 16 + 0.001 * len(symbols)
