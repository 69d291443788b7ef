"""Margins, admissible sets and ranks of a block of rows, with and without filters."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ConfigError
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores_filters import Cuts, Heads, heads, spans
from tidegate.verify.scores_normal import log_ndtr
from tidegate.verify.scores_rows import (
    EVERYTHING,
    NEVER,
    UNIT,
    Draws,
    F32Array,
    F64Array,
    I32Array,
    I64Array,
    contenders,
    row_of,
    scale,
    sums,
)

_HALVINGS = 24
_NOWHERE = np.iinfo(np.int64).min // 4
_ROW_UNITS = 1 << 44
"""Units between two rows on one axis; no sum of score and noise is so large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What to compute beside the scores. Margins are in nats of logit.

    `margins`: where admissible sets are counted; boundary margins are exact up to the largest and
    inf beyond. `sigma`: the noise that `TokenScores.share_T` assumes. Raises ConfigError unless
    all are positive and finite, and margins ascend.
    """

    margins: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    sigma: float = 0.03

    def __post_init__(self) -> None:
        steps = itertools.pairwise((0.0, *self.margins))
        if not self.margins or any(not low < high < math.inf for low, high in steps):
            raise ConfigError("give margins in nats, positive and ascending")
        if not 0 < self.sigma < math.inf:
            raise ConfigError("sigma must be a positive number of nats")


@dataclass(frozen=True, slots=True, eq=False)
class Margins:
    """What `scores.TokenScores` says of some rows, all but the logit rank."""

    expected_T: I32Array
    margin_T: F64Array
    boundary_margin_T: F64Array
    gumbel_rank_T: I64Array
    plain_MT: I64Array
    admissible_MT: I64Array
    share_T: F64Array


def _weights(margin_N: F64Array, sigma: float) -> F64Array:
    """Φ(-x) / Φ(x): 1 for the best, and between two tokens the odds that noise swaps them."""
    x_N = margin_N / (math.sqrt(2) * sigma)
    weight_N: F64Array = np.exp(log_ndtr(-x_N) - log_ndtr(x_N))
    return weight_N


def _per_row(row_N: I64Array, rows: int, chosen_N: NDArray[np.bool_]) -> I64Array:
    return np.bincount(row_N[chosen_N], minlength=rows)


def unfiltered(
    scores_TV: F32Array,
    served_T: I64Array,
    params: SamplingParams,
    draws: Draws | None,
    scoring: Scoring,
) -> Margins:
    """Margins where every token can be drawn. scores_TV: shifted, float32; `draws` None: greedy."""
    rows = served_T.size
    nats = scale(params) / UNIT
    served_scores_T = scores_TV[np.arange(rows), served_T]
    reach = min(math.ceil(scoring.margins[-1] / nats), EVERYTHING)
    found = contenders(scores_TV, draws, served_T.astype(np.int32), served_scores_T, reach)
    row_N = row_of(found.start_R)
    expected_T = np.empty(rows, np.int32)
    # Ascending by id and written from the back: the lowest id with no gap is what remains.
    best_N = np.flatnonzero(found.gap_N == 0)[::-1]
    expected_T[row_N[best_N]] = found.id_N[best_N]
    margin_T: F64Array = np.where(found.claimed_gap_T == NEVER, np.inf, found.claimed_gap_T * nats)
    margin_N = found.gap_N.astype(np.float64) * nats
    counts_MT = np.stack([_per_row(row_N, rows, margin_N <= limit) for limit in scoring.margins])
    weight_N = _weights(margin_N, scoring.sigma)
    served_weight_T = np.where(
        margin_T <= scoring.margins[-1], _weights(margin_T, scoring.sigma), 0.0
    )
    return Margins(
        expected_T=expected_T,
        margin_T=margin_T,
        boundary_margin_T=margin_T,
        gumbel_rank_T=_per_row(row_N, rows, found.gap_N < found.claimed_gap_T[row_N]),
        plain_MT=counts_MT,
        admissible_MT=counts_MT,
        share_T=served_weight_T / np.bincount(row_N, weight_N, minlength=rows),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """The tokens of each row that may survive, best score first, with their sums.

    sum_N: score + noise in units. highest_N: the largest sum from the row's first token to here.
    served_fall_T: nats of score below the best, inf where never; served_sum_T: units.
    """

    heads: Heads
    start_R: I64Array
    sum_N: I64Array
    highest_N: I64Array
    served_fall_T: F64Array
    served_sum_T: I64Array

    def only(self, rows_P: I64Array) -> _Field:
        at_N, start_R = spans(self.start_R, rows_P)
        return _Field(
            self.heads.only(rows_P),
            start_R,
            self.sum_N[at_N],
            self.highest_N[at_N],
            self.served_fall_T[rows_P],
            self.served_sum_T[rows_P],
        )

    def bar(self, cuts: Cuts) -> I64Array:
        """The largest sum among the tokens that must survive; far below any where there is none."""
        last_T = np.maximum(self.start_R[:-1] + cuts.must_T - 1, 0)
        return np.where(cuts.must_T > 0, self.highest_N[last_T], _NOWHERE)

    def possible(self, d_T: F64Array) -> NDArray[np.bool_]:
        """Whether each served token is a possible answer at a margin of d_T nats of score."""
        cuts = self.heads.cuts(d_T)
        return (self.served_fall_T <= cuts.fall_T) & (
            self.bar(cuts) - self.served_sum_T <= d_T * UNIT
        )


def filtered(
    scores_TV: F32Array,
    served_T: I64Array,
    params: SamplingParams,
    draws: Draws,
    scoring: Scoring,
) -> Margins:
    """Margins where filters mask tokens. scores_TV: shifted, float32."""
    rows, nats = served_T.size, scale(params) / UNIT
    reach = scoring.margins[-1] / scale(params)
    tops = heads(scores_TV, params, reach)
    near = _field(tops, scores_TV, served_T, draws, reach)
    row_N = row_of(near.start_R)
    place_N = np.arange(row_N.size) - near.start_R[row_N]
    id_N = tops.id_N[tops.start_R[row_N] + place_N]
    kept_N = place_N < tops.kept_T[row_N]
    best_T = near.highest_N[near.start_R[:-1] + tops.kept_T - 1]
    gap_N = best_T[row_N] - near.sum_N
    gap_T = best_T - near.served_sum_T
    served_N = id_N == served_T[row_N]
    survives_T = _per_row(row_N, rows, served_N & kept_N) > 0
    margin_T = np.where(survives_T, gap_T * nats, np.inf)

    expected_T = np.full(rows, np.iinfo(np.int32).max, np.int32)
    winner_N = kept_N & (gap_N == 0)
    np.minimum.at(expected_T, row_N[winner_N], id_N[winner_N])

    admissible_MT = np.empty((len(scoring.margins), rows), np.int64)
    for m, limit in enumerate(scoring.margins):
        d = limit / scale(params)
        cuts = tops.cuts(np.full(rows, d))
        enough_N = near.sum_N >= (near.bar(cuts) - math.floor(d * UNIT))[row_N]
        admissible_MT[m] = _per_row(row_N, rows, enough_N & (place_N < cuts.may_T[row_N]))

    edge_T = tops.fall_N[tops.start_R[:-1] + tops.kept_T - 1]
    fall_N = tops.fall_N[tops.start_R[row_N] + place_N]
    beyond_N = np.maximum(fall_N - edge_T[row_N], 0) * scale(params)
    weight_N = _weights(np.maximum(np.maximum(gap_N, 0) * nats, beyond_N), scoring.sigma)
    return Margins(
        expected_T=expected_T,
        margin_T=margin_T,
        boundary_margin_T=np.minimum(
            _boundary_margins(near, margin_T, reach) * scale(params), margin_T
        ),
        gumbel_rank_T=_per_row(row_N, rows, kept_N & (gap_N < gap_T[row_N])),
        plain_MT=np.stack(
            [_per_row(row_N, rows, kept_N & (gap_N * nats <= limit)) for limit in scoring.margins]
        ),
        admissible_MT=admissible_MT,
        share_T=np.bincount(row_N, weight_N * served_N, minlength=rows)
        / np.bincount(row_N, weight_N, minlength=rows),
    )


def _field(
    tops: Heads, scores_TV: F32Array, served_T: I64Array, draws: Draws, reach: float
) -> _Field:
    rows = np.arange(served_T.size)
    may_T = tops.cuts(np.full(rows.size, reach)).may_T
    start_R = np.concatenate([[0], np.cumsum(may_T)])
    row_N = np.repeat(rows, may_T)
    at_N = tops.start_R[row_N] + np.arange(row_N.size) - start_R[row_N]
    sum_N = sums(start_R, tops.id_N[at_N], tops.score_N[at_N], tops.best_T, draws)
    axis_N = row_N * _ROW_UNITS
    highest_N = np.maximum.accumulate(sum_N + axis_N) - axis_N
    served_scores_T = scores_TV[rows, served_T]
    one_R = np.arange(rows.size + 1)
    served_sum_T = sums(one_R, served_T.astype(np.int32), served_scores_T, tops.best_T, draws)
    fall_T = tops.best_T.astype(np.float64) - served_scores_T
    return _Field(tops, start_R, sum_N, highest_N, fall_T, served_sum_T)


def _boundary_margins(near: _Field, margin_T: F64Array, reach: float) -> F64Array:
    """Smallest margins, in nats of score, at which the served tokens are possible answers."""
    d_T = np.where(margin_T == 0.0, 0.0, np.inf)
    off_P = np.flatnonzero(margin_T > 0.0)
    off = near.only(off_P)
    d_T[off_P[off.possible(np.zeros(off_P.size))]] = 0.0
    between_P = np.flatnonzero((d_T[off_P] > 0.0) & off.possible(np.full(off_P.size, reach)))
    if between_P.size == 0:
        return d_T
    asked = off.only(between_P)
    low_P, high_P = np.zeros(between_P.size), np.full(between_P.size, reach)
    for _ in range(_HALVINGS):
        middle_P = (low_P + high_P) / 2
        possible_P = asked.possible(middle_P)
        high_P = np.where(possible_P, middle_P, high_P)
        low_P = np.where(possible_P, low_P, middle_P)
    d_T[off_P[between_P]] = high_P
    return d_T
