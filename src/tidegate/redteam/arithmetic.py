"""Arithmetic coding turned round: a message picks tokens, tokens give the message back.

With exact integers, so that nothing is lost and the last bit counts. (Cox & Ziegler, Deng & Rush,
"Neural linguistic steganography", 2019, with the arithmetic of Witten, Neal & Cleary 1987.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.redteam.drawing import message
from tidegate.verify.scores_rows import F64Array, I64Array

PRECISION = 30
"""A law's frequencies sum to 2**PRECISION."""


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """What a token may be and how often. ids_K: int64. ends_K: int64, running sums of frequencies,
    the last one 2**PRECISION; each frequency is at least 1."""

    ids_K: I64Array
    ends_K: I64Array

    @staticmethod
    def of(ids_K: NDArray[np.integer], shares_K: F64Array) -> Law:
        """The law nearest to `shares_K`, which need not sum to 1."""
        whole = 1 << PRECISION
        frequency_K = np.floor(shares_K / shares_K.sum() * (whole - shares_K.size)).astype(np.int64)
        frequency_K += 1
        frequency_K[int(frequency_K.argmax())] += whole - int(frequency_K.sum())
        return Law(ids_K.astype(np.int64), np.cumsum(frequency_K))

    def span(self, place: int) -> tuple[int, int]:
        """Where the frequencies of the token at `place` begin, and how many they are."""
        begin = int(self.ends_K[place - 1]) if place else 0
        return begin, int(self.ends_K[place]) - begin

    def bits(self, place: int) -> float:
        """What choosing that token says."""
        return PRECISION - math.log2(self.span(place)[1])


class Interval:
    """The messages that agree with the tokens so far: a part of [0, 1), in exact integers."""

    def __init__(self) -> None:
        self._low = 0
        self._width = 1
        self._scale = 0
        """Messages are counted in 2**-scale."""

    def narrow(self, law: Law, place: int) -> None:
        """A token was chosen."""
        begin, size = law.span(place)
        self._low = (self._low << PRECISION) + self._width * begin
        self._width *= size
        self._scale += PRECISION

    def place(self, law: Law, text: int, bits: int) -> int:
        """Which token the message `text`, of `bits` bits, chooses next."""
        scale = self._scale + PRECISION
        point = text << (scale - bits) if scale >= bits else text >> (bits - scale)
        within = (point - (self._low << PRECISION)) // self._width
        return int(np.searchsorted(law.ends_K, within, side="right"))

    def settled(self) -> tuple[int, int]:
        """The bits on which all messages in the interval agree, and how many they are."""
        last = self._low + self._width - 1
        count = self._scale - (self._low ^ last).bit_length()
        return self._low >> (self._scale - count), count


class Writer:
    """Sends one stream's message. `most`: tokens it may have."""

    def __init__(self, stream: int, most: int) -> None:
        self._bits = PRECISION * (most + 1)
        self._text = message(stream, self._bits)
        self._interval = Interval()

    def choose(self, law: Law) -> tuple[int, float]:
        """The next token, and the bits it says."""
        place = self._interval.place(law, self._text, self._bits)
        self._interval.narrow(law, place)
        return int(law.ids_K[place]), law.bits(place)


class Listener:
    """Receives one stream's message."""

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._interval = Interval()
        self.lost = False
        """A token came that the law has no place for: the rest cannot be read."""

    def hear(self, law: Law, token: int) -> None:
        """Take the next token."""
        places = np.flatnonzero(law.ids_K == token)
        if self.lost or places.size == 0:
            self.lost = True
            return
        self._interval.narrow(law, int(places[0]))

    def tally(self) -> tuple[int, int]:
        """Bits received, and how many of them are wrong."""
        got, count = self._interval.settled()
        return count, (got ^ message(self._stream, count)).bit_count()
