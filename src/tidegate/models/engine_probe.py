"""Does an engine draw with our noise? A question whose answer says so without a copy of the model.

A few tokens are drawn hot from a short prompt, among the few best scores only. The engine's own raw
log-probabilities of those best, asked for without the plug-in, then say which token the noise of
each place picks. An engine without the plug-in answers greedily, one with other noise otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from tidegate.models.engine_port import Ask
from tidegate.sampling.gumbel import SEED_BYTES
from tidegate.sampling.noise import SCORE_BITS, gumbel
from tidegate.sampling.params import SamplingParams

Verdict = Literal["seeded", "greedy", "other", "unclear"]
"""Whether an engine drew with our noise, without any, or with some other."""

TOP: Final = 8
"""How many tokens the probe draws among."""

LISTED: Final = 16
"""How many log-probabilities are asked for: ties with the last one drawn among stay, as in vLLM."""

TOKENS: Final = 8
SEEDS: Final = 4
"""Attempts, where an answer happens to be one that needs no noise."""

_HOT: Final = SamplingParams(temperature=2.0, top_k=TOP)
_PROMPT: Final = 6
_CLEAR: Final = 0.5
"""Nats of score that two passes of one model differ by at most, bfloat16 included."""

_TELLING: Final = 2
"""Tokens that only our noise picks, before an engine is believed."""

LogProbs = Mapping[int, float]
"""Natural log-probabilities by token id, of the most likely ones."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A probe's answer: the tokens, and for each the raw log-probabilities it was drawn from."""

    tokens: tuple[int, ...]
    rows: tuple[LogProbs, ...]


def probes(vocab_size: int) -> Iterator[Ask]:
    """What to ask, one after the other until the answer is clear."""
    for number in range(SEEDS):
        digest = hashlib.shake_256(b"tidegate.engine.probe.v1" + bytes([number])).digest(96)
        words = (int.from_bytes(digest[32 + 8 * n : 40 + 8 * n]) for n in range(_PROMPT))
        yield Ask(
            prompt=tuple(word % vocab_size for word in words),
            seed=digest[:32],
            params=_HOT,
            max_tokens=TOKENS,
        )


def judge(ask: Ask, heard: Heard) -> Verdict:
    """What an answer says of the engine that gave it."""
    telling = greedy = other = 0
    for place, (token, row) in enumerate(zip(heard.tokens, heard.rows, strict=True)):
        sums = _sums(ask, place, row)
        best = max(sums.values())
        likeliest = max(row, key=lambda word: row[word])
        if sums.get(token, -np.inf) < best - _CLEAR:
            other += 1
            greedy += row.get(token, -np.inf) >= row[likeliest] - _CLEAR
        elif sums[likeliest] < best - 2 * _CLEAR:
            telling += 1
    if other:
        return "greedy" if greedy == other else "other"
    return "seeded" if telling >= _TELLING else "unclear"


def same_weights(one: LogProbs, other: LogProbs) -> bool:
    """Whether two replicas' log-probabilities after one prompt can be of the same weights."""
    shared = one.keys() & other.keys()
    # The list's end may fall between two words that the two have in another order.
    if len(shared) < min(len(one), len(other)) * 3 // 4:
        return False
    return all(abs(one[word] - other[word]) <= _CLEAR for word in shared)


def _sums(ask: Ask, place: int, row: LogProbs) -> dict[int, float]:
    """Score plus noise, in nats, of the tokens that the probe's filter leaves."""
    ranked: Sequence[float] = sorted(row.values(), reverse=True)
    least = ranked[min(TOP, len(ranked)) - 1]
    seed = ask.seed[:SEED_BYTES]
    return {
        word: logprob / ask.params.temperature + gumbel(seed, place, word) / 2**SCORE_BITS
        for word, logprob in row.items()
        if logprob >= least
    }
