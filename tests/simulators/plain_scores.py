"""What `tidegate.verify.scores` computes, for one token at a time, as plainly as it can be said."""

from __future__ import annotations

import math

import numpy as np

from tidegate.sampling.filters import mask_scores
from tidegate.sampling.noise import gumbel, score_units
from tidegate.sampling.params import SamplingParams

UNIT = 2.0**20


def sums(scores: np.ndarray, seed: bytes | None, position: int) -> list[int | None]:
    """score + noise of every token, in units of 2**-20 nat."""
    units = score_units(scores.tolist())
    return [
        None if unit is None else unit + (gumbel(seed, position, token) if seed else 0)
        for token, unit in enumerate(units)
    ]


def margin(scores: np.ndarray, params: SamplingParams, seed, position, served: int) -> float:
    """Δ in nats of logit, from shifted scores."""
    every = sums(scores, seed, position)
    kept = mask_scores(scores, params) > -np.inf
    best = max(every[token] for token in np.flatnonzero(kept))
    return (best - every[served]) / UNIT * temperature(params) if kept[served] else math.inf


def temperature(params: SamplingParams) -> float:
    return max(params.temperature, 0.01) if params.temperature else 1.0


def admissible(
    scores: np.ndarray, params: SamplingParams, seed: bytes, position: int, limit: float
) -> set[int]:
    """Tokens whose boundary margin is at most `limit` nats of logit, by the definition."""
    d = limit / temperature(params)
    order = sorted(range(scores.size), key=lambda token: -float(scores[token]))
    falls = [float(scores[order[0]]) - float(scores[token]) for token in order]
    mass = [math.exp(-fall) for fall in falls]
    may, must = [math.inf], [math.inf]
    k = params.top_k if params.top_k < scores.size else 0
    if params.min_p:
        may.append(-math.log(params.min_p))
        must.append(-math.log(params.min_p))
    if k:
        may.append(falls[k - 1])
        must.append(falls[k])
    if params.top_p < 1:
        odds = params.top_p / (1 - params.top_p)
        floor = -math.log(params.min_p) if params.min_p else math.inf
        for sign, cuts in ((1, may), (-1, must)):
            share = odds * math.exp(sign * d)
            share /= 1 + share
            if sign > 0:
                live = sum(fall <= min(may) + d for fall in falls)
            else:
                live = max(1, min(sum(fall <= floor - d for fall in falls), k or scores.size))
            total = sum(mass[:live])
            inside = sum(sum(mass[:n]) < share * total for n in range(scores.size))
            cuts.append(falls[inside - 1] if sign > 0 else ([*falls, math.inf])[inside])
    every = sums(scores, seed, position)
    ids = range(len(order))
    certain = [every[order[n]] for n in ids if falls[n] < min(must) - d]
    bar = max(certain, default=-(1 << 60))
    survivors = np.flatnonzero(mask_scores(scores, params) > -np.inf).tolist()
    possible = {order[n] for n in ids if falls[n] <= min(may) + d} | set(survivors)
    return {token for token in possible if every[token] >= bar - d * UNIT}
