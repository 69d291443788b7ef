"""Senders who say something by where an answer ends, or by letting it fail."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from tidegate.record.entries import Reason
from tidegate.redteam.drawing import message
from tidegate.redteam.lab import ABORT, Honest, Turn
from tidegate.redteam.outer import Job

_GRIND_TOKENS = 4
"""Tokens of a draft that are looked at before it is kept or thrown away."""


class Lengths(Honest):
    """Ends every answer after as many tokens as the message says, by an end token or by failing.

    The receiver counts. `eos` None: the job is reported as failed, which no sampling rule forbids.
    """

    def __init__(self, vocab_size: int, eos: int | None) -> None:
        super().__init__(vocab_size)
        self._eos = eos

    def send(self, turn: Turn) -> Sequence[int]:
        tokens = list(super().send(turn))
        for row, job in enumerate(turn.jobs):
            if turn.position + 1 < said_length(job):
                continue
            tokens[row] = ABORT if self._eos is None else self._eos
            # A failed answer's last token stands for its end.
            self.sent.bits[job.index][-1] += bits_of_length(job)
        return tokens

    def hear(self, turn: Turn, tokens: Sequence[int]) -> None:
        """What is said shows only at the end."""

    def tally(self, jobs: Sequence[Job]) -> tuple[int, int]:
        bits = wrong = 0
        for job in jobs:
            length = len(job.tokens) + (job.reason is Reason.FAILED)
            bits += bits_of_length(job)
            wrong += ((length - 1) ^ (said_length(job) - 1)).bit_count()
        return bits, wrong


def bits_of_length(job: Job) -> int:
    """Whole bits that the length of an answer can say."""
    return int(math.log2(job.limits.max_tokens))


def said_length(job: Job) -> int:
    """The length that says the message: from 1 to 2**bits."""
    return 1 + message(job.index, bits_of_length(job))


class Grinder(Honest):
    """Lets every draft fail whose first tokens do not hash to the message, until one does.

    Every token served is honest. The client who asks again and again reads the hash of the answer
    he gets. `bits` an answer that is kept.
    """

    def __init__(self, vocab_size: int, bits: int, most: int) -> None:
        super().__init__(vocab_size)
        self.bits = bits
        self._most = most

    def send(self, turn: Turn) -> Sequence[int]:
        tokens = list(super().send(turn))
        for row, job in enumerate(turn.jobs):
            start = [*job.tokens, tokens[row]]
            if len(start) == _GRIND_TOKENS:
                kept = self.read(start) == self.said(job)
                if not kept and job.attempt + 1 < self._most:
                    tokens[row] = ABORT
                else:
                    self.sent.bits[job.index][-1] += self.bits
        return tokens

    def hear(self, turn: Turn, tokens: Sequence[int]) -> None:
        """What is said shows only in whole answers."""

    def read(self, tokens: Sequence[int]) -> int:
        """What the first tokens of an answer say."""
        raw = repr(list(tokens[:_GRIND_TOKENS])).encode()
        return hashlib.blake2b(raw, digest_size=4, key=b"grind").digest()[0] % (1 << self.bits)

    def said(self, job: Job) -> int:
        """The message for whoever asked this."""
        return message(job.prompt[-1], self.bits)

    def tally(self, jobs: Sequence[Job]) -> tuple[int, int]:
        whole = [job for job in jobs if job.reason is not Reason.FAILED]
        whole = [job for job in whole if len(job.tokens) >= _GRIND_TOKENS]
        wrong = sum((self.read(job.tokens) ^ self.said(job)).bit_count() for job in whole)
        return self.bits * len(whole), wrong
