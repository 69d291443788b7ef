"""Senders whose receivers need neither model nor seeds: they look at the tokens alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tidegate.redteam.drawing import message
from tidegate.redteam.lab import Sent, Turn
from tidegate.redteam.outer import Job
from tidegate.redteam.trellis import embed, extract
from tidegate.sampling.gumbel import Noise
from tidegate.verify.bounds_laws import normal_floor
from tidegate.verify.scores_normal import log_ndtr

_EFFICIENCY = 0.7
"""Of what noise could hide, how much the code is asked to: what a code of this height reaches."""


def colours(name: str, vocab_size: int) -> NDArray[np.uint8]:
    """A colour, 0 or 1, for each token: the sender's and receiver's secret. [V]."""
    raw = hashlib.shake_128(b"the attackers' colours " + name.encode())
    return np.unpackbits(np.frombuffer(raw.digest((vocab_size + 7) // 8), np.uint8))[:vocab_size]


def bits_of(text: int, count: int) -> NDArray[np.uint8]:
    """The bits of a whole number, the highest first. [count]."""
    return np.array([text >> (count - 1 - place) & 1 for place in range(count)], np.uint8)


class NoiseMatching:
    """Flips tokens only where honest noise might have, as often as it would: one syndrome-trellis
    code over all streams of a step, since within a stream a flip changes what follows.

    `sigma`: the noise he imitates, nats a logit; `mismatch`: how often it flips a token; `reach`:
    nats beyond which he never goes. Where noise flips next to nothing, he sends next to nothing.
    """

    def __init__(self, sigma: float, mismatch: float, reach: float, vocab_size: int) -> None:
        self.sent = Sent()
        self._sigma = sigma
        self._share = _EFFICIENCY * normal_floor() * mismatch
        self._reach = reach
        self._vocab_size = vocab_size
        self._noise = Noise(vocab_size)
        self._tally = [0, 0]

    def send(self, turn: Turn) -> Sequence[int]:
        tokens = [turn.honest(row, self._noise) for row in range(len(turn.jobs))]
        payload = self._payload(turn)
        if payload:
            tokens = self._flipped(turn, tokens, payload)
        for job in turn.jobs:
            self.sent.add(job, payload / len(turn.jobs))
        return tokens

    def hear(self, turn: Turn, tokens: Sequence[int]) -> None:
        payload = self._payload(turn)
        if payload:
            seen_N = np.array(
                [self._colours(turn, row)[token] for row, token in enumerate(tokens)], np.uint8
            )
            wrong_M = extract(seen_N, payload) != self._message(turn, payload)
            self._tally[0] += payload
            self._tally[1] += int(np.count_nonzero(wrong_M))

    def tally(self, jobs: Sequence[Job]) -> tuple[int, int]:
        return self._tally[0], self._tally[1]

    def _flipped(self, turn: Turn, tokens: list[int], payload: int) -> list[int]:
        others = list(tokens)
        cover_N = np.zeros(len(tokens), np.uint8)
        cost_N = np.full(len(tokens), math.inf)
        for row, (ids_K, gaps_K) in enumerate(turn.admissible(self._reach)):
            colour_V = self._colours(turn, row)
            cover_N[row] = colour_V[tokens[row]]
            other_K = np.flatnonzero(colour_V[ids_K] != cover_N[row])
            if other_K.size:
                others[row] = int(ids_K[other_K[0]])
                nats = float(gaps_K[other_K[0]]) / 2**20 * turn.jobs[row].params.temperature
                cost_N[row] = _odds(nats, self._sigma)
        served_N = embed(cover_N, cost_N, self._message(turn, payload))
        if served_N is None:
            return tokens
        return [
            other if flip else token
            for token, other, flip in zip(tokens, others, served_N != cover_N, strict=True)
        ]

    def _payload(self, turn: Turn) -> int:
        return math.floor(self._share * len(turn.jobs))

    def _message(self, turn: Turn, payload: int) -> NDArray[np.uint8]:
        return bits_of(message(-1 - turn.jobs[0].index * 100_000 - turn.position, payload), payload)

    def _colours(self, turn: Turn, row: int) -> NDArray[np.uint8]:
        return colours(f"{turn.jobs[row].index} {turn.position}", self._vocab_size)


def _odds(nats: float, sigma: float) -> float:
    """What a flip costs who wants to look like noise: the log odds that noise does not do it."""
    x = np.array([nats / (math.sqrt(2) * sigma)])
    return max(0.0, float(log_ndtr(x)[0] - log_ndtr(-x)[0]))


class ColourList:
    """A multi-bit watermark: logits of the message's colour are raised, and the receiver counts
    colours (Kirchenbauer et al. 2023; several bits by position as Yoo, Ahn & Kwak 2024).

    `bits` an answer, each spread over the places drawn for it; `lift` in nats.
    """

    def __init__(self, vocab_size: int, bits: int = 8, lift: float = 2.0) -> None:
        self.sent = Sent()
        self._vocab_size = vocab_size
        self._bits = bits
        self._lift = lift
        self._noise = Noise(vocab_size)
        self._votes: dict[int, NDArray[np.int64]] = {}

    def send(self, turn: Turn) -> Sequence[int]:
        tokens = []
        for row, job in enumerate(turn.jobs):
            colour_V, place = self._at(job, turn.position)
            said = bits_of(message(job.index, self._bits), self._bits)[place]
            scores_V = turn.scores(row) + np.float32(self._lift) * (colour_V == said)
            self._noise.move(job.seed, turn.position)
            tokens.append(self._noise.sample(scores_V.astype(np.float32)))
            self.sent.add(job, self._bits / job.limits.max_tokens)
        return tokens

    def hear(self, turn: Turn, tokens: Sequence[int]) -> None:
        for job, token in zip(turn.jobs, tokens, strict=True):
            colour_V, place = self._at(job, turn.position)
            votes_B = self._votes.setdefault(job.index, np.zeros(self._bits, np.int64))
            votes_B[place] += 2 * int(colour_V[token]) - 1

    def tally(self, jobs: Sequence[Job]) -> tuple[int, int]:
        wrong = 0
        for index, votes_B in self._votes.items():
            said_B = bits_of(message(index, self._bits), self._bits)
            wrong += int(np.count_nonzero((votes_B > 0) != (said_B == 1)))
        return self._bits * len(self._votes), wrong

    def _at(self, job: Job, position: int) -> tuple[NDArray[np.uint8], int]:
        name = f"{job.index} {position}"
        place = hashlib.blake2b(name.encode(), digest_size=1, key=b"places").digest()[0]
        return colours(name, self._vocab_size), place % self._bits
