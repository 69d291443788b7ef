"""How likely is each candidate? The definition, in Python integers (spec/symbol-model.md).

Candidates are asked about best first. How likely a yes is, is guessed by three tempered softmaxes
of score + noise and by five adaptive counters, mixed in the logistic domain by weights that adapt
too. The C kernel is held to this file to the last unit of every probability.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache

from tidegate._native import tables
from tidegate.coding.candidates import Candidates
from tidegate.sampling.noise import SCORE_BITS, ilog2

ONE = 1 << 16
"""Probabilities of answers are in 2**-16."""

_NAT = SCORE_BITS - 8  # from score units to 2**-8 nat, the model's unit of log-odds
_FAR = 1 << 14
_OUTSIDE = 1 << 16
_SHARPNESS = (10, 20, 36)
_START_WEIGHTS = (12000, 24000, 8000, 6000, 6000, 6000, 6000, 6000)
_MIXERS = 2
_SEEN_LIMIT = 250

_exp2 = cache(tables.exp2_table)
_stretch = cache(tables.stretch_table)
_squash = cache(tables.squash_table)
_rate = cache(tables.rate_table)


def _limit(x: int, low: int, high: int) -> int:
    return min(max(x, low), high)


def _divide(a: int, b: int) -> int:
    """a / b towards zero, as C divides."""
    return a // b if a >= 0 else -(-a // b)


def squash(log_odds: int) -> int:
    """Probability in 2**-16 of log-odds in 2**-8 nat."""
    most = tables.ODDS_LIMIT
    return _squash()[_limit(log_odds, -most, most) + most]


def exp_down(x: int) -> int:
    """exp(-x / 256) in 2**-40, for x >= 0."""
    octaves = x * 94548 >> 16
    return 0 if octaves >= 40 << 8 else _exp2()[octaves & 0xFF] >> (octaves >> 8)


def log_mass(x: int) -> int:
    """ln(x / 2**40) in 2**-8 nat."""
    return ((ilog2(x) - (40 << 32)) >> 16) * (tables.LN2_Q32 >> 8) >> 32


def level(distance: int, first: int, top: int) -> int:
    """A distance on a scale of two steps a doubling; all below 2**first is 0."""
    if distance < 1 << first:
        return 0
    n = distance.bit_length() - 1
    return min(1 + 2 * (n - first) + (distance >> (n - 1) & 1), top)


class Counter:
    """An adaptive probability of yes: quick at first, slower the more it has seen."""

    __slots__ = ("odds", "seen")

    def __init__(self, odds: int) -> None:
        self.odds, self.seen = odds, 0

    def learn(self, yes: bool) -> None:
        """Move towards the answer."""
        towards = (ONE - 1 if yes else 0) - self.odds
        self.odds = _limit(self.odds + _divide(towards * _rate()[self.seen], ONE), 16, ONE - 16)
        self.seen = min(self.seen + 1, _SEEN_LIMIT)


class Prepared:
    """One token's candidates in the model's units: 2**-8 nat."""

    def __init__(self, cand: Candidates) -> None:
        self.greedy = int(cand.greedy)
        self.gaps = [int(gap) >> _NAT for gap in cand.gaps]
        self.falls = [int(fall) >> _NAT for fall in cand.falls]
        mass = sum(exp_down(fall) for fall in self.falls)
        self.spread = _limit(_divide(log_mass(mass), 64), 0, 15) if mass else 0
        self.tempered = [self._hazards(sharpness) for sharpness in _SHARPNESS]

    def _hazards(self, sharpness: int) -> list[int]:
        """Log-odds of each candidate against all after it, under softmax of -gap * sharpness/16."""
        hazards, rest = [], _OUTSIDE
        for gap in reversed(self.gaps):
            sharp = gap * sharpness // 16
            hazards.append(_limit(-sharp - log_mass(rest), -tables.ODDS_LIMIT, tables.ODDS_LIMIT))
            rest += exp_down(sharp)
        return hazards[::-1]


@dataclass(frozen=True, slots=True)
class Question:
    """What a yes was predicted from, kept until the answer is known."""

    counters: list[Counter]
    weights: list[list[int]]
    inputs: list[int]
    guesses: list[int]
    yes: int


class Model:
    """All that adapts; the same on both sides after the same symbols."""

    def __init__(self) -> None:
        self.counters: defaultdict[tuple[int, ...], Counter] = defaultdict(
            lambda: Counter(ONE // 2)
        )
        self.weights: defaultdict[tuple[int, int], list[int]] = defaultdict(
            lambda: list(_START_WEIGHTS)
        )
        self.flags: defaultdict[int, Counter] = defaultdict(lambda: Counter(ONE // 16))

    def ask(self, token: Prepared, rank: int) -> Question:
        """How likely is the candidate of this rank, given that it is none before?"""
        gaps, falls, greedy = token.gaps, token.falls, token.greedy

        def ahead(k: int, column: list[int], base: int) -> int:
            return column[rank + k] - base if rank + k < len(column) else _FAR

        lead = level(ahead(1, gaps, gaps[rank]), 4, 15)
        lead_after = level(ahead(2, gaps, gaps[rank]), 5, 11)
        fall = level(falls[rank], 5, 13)
        fall_next = level(ahead(1, falls, 0), 5, 13)
        behind = level(gaps[rank], 6, 9)
        steps = (8, 12, 20, 36, 64)
        rank_class = rank if rank < 6 else 6 + sum(rank >= step for step in steps)
        eight, four = min(rank, 7), min(rank, 3)

        contexts = (
            (0, rank_class, lead, greedy),
            (1, eight, fall, lead),
            (2, greedy, four, token.spread, lead),
            (3, four, fall, fall_next, greedy),
            (4, greedy, eight, behind, lead_after),
        )
        counters = [self.counters[context] for context in contexts]
        weights = [
            self.weights[0, rank_class * 2 + greedy],
            self.weights[1, eight * 16 + lead],
        ]
        inputs = [hazards[rank] for hazards in token.tempered]
        inputs += [_stretch()[counter.odds >> 4] for counter in counters]
        most = tables.ODDS_LIMIT
        guesses = [
            _limit(sum(w * x for w, x in zip(row, inputs, strict=True)) >> 16, -most, most)
            for row in weights
        ]
        yes = squash(_divide(sum(guesses), _MIXERS))
        return Question(counters, weights, inputs, guesses, yes)

    @staticmethod
    def learn(question: Question, yes: bool) -> None:
        """Move the question's counters and weights towards the answer."""
        for counter in question.counters:
            counter.learn(yes)
        for row, guess in zip(question.weights, question.guesses, strict=True):
            error = (ONE - 1 if yes else 0) - squash(guess)
            for i, x in enumerate(question.inputs):
                row[i] = _limit(row[i] + (x * error * 10 >> 20), -(1 << 20), 1 << 20)
