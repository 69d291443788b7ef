"""Smoothing of the n-gram, fitted by coordinate descent on text that the counts have not seen.

What each context length knows of each place in the text does not depend on the smoothing, so it is
looked up once; after that a trial is a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.models.card import Text
from tidegate.models.ngram_tables import Array, Smoothing

CACHE_ORDERS = 6
ROUNDS = 4


@dataclass(frozen=True)
class _Places:
    """One row per context length, one column per place; counts are of the token that came."""

    ids_N: NDArray[np.float64]
    unigram_N: NDArray[np.float64]
    unigram_total: float
    vocab_size: int
    learned_LN: NDArray[np.float64]
    learned_total_LN: NDArray[np.float64]
    learned_types_LN: NDArray[np.float64]
    seen_LN: NDArray[np.float64]
    seen_total_LN: NDArray[np.float64]
    seen_types_LN: NDArray[np.float64]


def fit(
    tables: Mapping[str, Array], texts: Sequence[Text], progress: Callable[[float], None]
) -> Smoothing:
    """The best smoothing found; `progress` hears the bits per token after each improvement."""
    places = _look_up(tables, texts)
    order = len(tables) // 4  # longest context with counts
    values = [0.75] * order + [1.0] * (2 * CACHE_ORDERS) + [100.0, 1000.0]
    values[order + CACHE_ORDERS] = 50.0
    best = _bits(places, _smoothing(values, order))
    for factor in (2.0, 1.4, 1.15, 1.05)[:ROUNDS]:
        improved = True
        while improved:
            improved = False
            for index, change in _changes(len(values), factor):
                trial = list(values)
                trial[index] *= change
                if index < order:
                    trial[index] = min(trial[index], 0.99)
                bits = _bits(places, _smoothing(trial, order))
                if bits < best - 1e-5:
                    best, values, improved = bits, trial, True
                    progress(best)
    return _smoothing([float(f"{value:.4g}") for value in values], order)


def _changes(count: int, factor: float) -> Iterator[tuple[int, float]]:
    for index in range(count):
        yield index, factor
        yield index, 1 / factor


def _smoothing(values: Sequence[float], order: int) -> Smoothing:
    return Smoothing(
        discounts=tuple(values[:order]),
        cache_weights=tuple(values[order : order + CACHE_ORDERS]),
        cache_backoffs=tuple(values[order + CACHE_ORDERS : order + 2 * CACHE_ORDERS]),
        prior_weight=values[-2],
        prior_offset=values[-1],
    )


def _bits(places: _Places, smoothing: Smoothing) -> float:
    prior = smoothing.prior_weight / (np.arange(places.vocab_size) + smoothing.prior_offset)
    probability_N = (
        places.unigram_N + smoothing.prior_weight / (places.ids_N + smoothing.prior_offset)
    ) / (places.unigram_total + prior.sum())
    for length in range(CACHE_ORDERS):
        weight, backoff = smoothing.cache_weights[length], smoothing.cache_backoffs[length]
        share_N = weight * places.seen_LN[length]
        total_N = weight * places.seen_total_LN[length]
        backoff_N = backoff * places.seen_types_LN[length]
        if 0 < length <= len(smoothing.discounts):
            discount = smoothing.discounts[length - 1]
            learned_N = places.learned_LN[length]
            freed_N = discount * places.learned_types_LN[length]
            share_N = share_N + np.where(learned_N > 0, learned_N - discount, 0)
            total_N = total_N + places.learned_total_LN[length] - freed_N
            backoff_N = backoff_N + freed_N
        known_N = backoff_N > 0
        mixed_N = (share_N + backoff_N * probability_N) / np.where(known_N, total_N + backoff_N, 1)
        probability_N = np.where(known_N, mixed_N, probability_N)
    return float(-np.log2(probability_N).mean())


def _look_up(tables: Mapping[str, Array], texts: Sequence[Text]) -> _Places:
    unigram_V = tables["counts_0"].astype(np.float64)
    vocab_size = len(unigram_V)
    learned = [_as_dict(tables, length) for length in range(1, len(tables) // 4 + 1)]
    columns: list[list[tuple[float, ...]]] = [[] for _ in range(CACHE_ORDERS)]
    ids: list[int] = []
    for prompt, answer in texts:
        text = [*prompt, *answer]
        seen: list[dict[tuple[int, ...], dict[int, int]]] = [{} for _ in range(CACHE_ORDERS)]
        for place, token in enumerate(text):
            for length in range(CACHE_ORDERS):
                context = tuple(reversed(text[max(0, place - length) : place]))
                here = seen[length].setdefault(context, {}) if len(context) == length else {}
                if place >= len(prompt):
                    known = (
                        learned[length - 1].get(context, {}) if 0 < length <= len(learned) else {}
                    )
                    columns[length].append(
                        (
                            known.get(token, 0), sum(known.values()), len(known),
                            here.get(token, 0), sum(here.values()), len(here),
                        )
                    )  # fmt: skip
                here[token] = here.get(token, 0) + 1
            if place >= len(prompt):
                ids.append(token)
    arrays = np.array(columns, dtype=np.float64).transpose(2, 0, 1)
    return _Places(
        np.array(ids, dtype=np.float64),
        unigram_V[ids],
        float(unigram_V.sum()),
        vocab_size,
        *arrays,
    )


def _as_dict(tables: Mapping[str, Array], length: int) -> dict[tuple[int, ...], dict[int, int]]:
    size = len(tables["counts_0"])
    starts = tables[f"starts_{length}"].tolist()
    tokens, counts = tables[f"tokens_{length}"].tolist(), tables[f"counts_{length}"].tolist()
    result = {}
    for row, packed in enumerate(tables[f"contexts_{length}"].tolist()):
        span = slice(starts[row], starts[row + 1])
        context = tuple(packed // size**digit % size for digit in range(length))
        result[context] = dict(zip(tokens[span], counts[span], strict=True))
    return result
