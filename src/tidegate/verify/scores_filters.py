"""Where min_p, top_k and top_p cut, and how surely each token lies on its side of the cut.

All three keep the best tokens down to some score, so a row is its head: the tokens near the top,
best first. For a margin of `d` nats of score a head says which tokens *may* survive and which
*must*, when every score is off by at most d / 2. Order statistics move no further than the scores
do, min_p compares with the best, and the odds of a share of probability move by at most exp(d). So
both are cuts by score again:

- may: score >= max(best + ln min_p, k-th score, last score in the nucleus of p+) - d
- must: score > max(best + ln min_p, (k+1)-th score, first score outside the nucleus of p-) + d

with odds(p±) = odds(p) exp(±d). Ties, common in bfloat16, may go either way at d = 0 already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tidegate._native._kernels import ffi, lib
from tidegate.errors import EngineError
from tidegate.sampling.masses import REACH, integer_masses
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores_rows import BoolArray, F32Array, F64Array, I32Array, I64Array

_DEPTHS = tuple(np.float32(nats) for nats in (4, 7, 10, 14, 20, REACH))
_GROUP = 64
_ROUNDING = np.float32(1e-6)
_ROW = 4096.0
"""Nats between two rows that are searched as one ascending axis."""
_DEEPEST = _ROW / 2


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """How many tokens of each row's head may, and how many must survive: int64 [T].

    fall_T: float64, how many nats of score below the best a token may lie and still survive.
    """

    may_T: I64Array
    must_T: I64Array
    fall_T: F64Array


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """The best tokens of every row, best first (ties: higher id first), row after row.

    Row t's are start_R[t] to start_R[t + 1]. score_N: float32. fall_N: float64, nats below the
    row's best. best_T: float32. kept_T: how many the filters keep, exactly. above_N: float64, mass
    of what lies above in its row. whole_T: float64, mass of the row before top_p, where no other
    filter is on. Masses are in units of 2**-42 of the best token's.
    """

    params: SamplingParams
    start_R: I64Array
    id_N: I32Array
    score_N: F32Array
    fall_N: F64Array
    best_T: F32Array
    kept_T: I64Array
    above_N: F64Array
    whole_T: F64Array | None

    def only(self, rows_P: I64Array) -> Heads:
        """Some of the rows, in the order given."""
        at_N, start_R = spans(self.start_R, rows_P)
        return Heads(
            self.params,
            start_R,
            self.id_N[at_N],
            self.score_N[at_N],
            self.fall_N[at_N],
            self.best_T[rows_P],
            self.kept_T[rows_P],
            self.above_N[at_N],
            None if self.whole_T is None else self.whole_T[rows_P],
        )

    def cuts(self, d_T: F64Array) -> Cuts:
        """What may and what must survive at a margin of d_T nats of score, row by row."""
        params = self.params
        least = _least_fall(params)
        may_T, must_T = np.full(d_T.size, least), np.full(d_T.size, least)
        k = params.top_k
        if k:
            may_T = np.minimum(may_T, self._fall(k - 1))
            must_T = np.minimum(must_T, self._fall(k))
        if params.top_p < 1.0:
            generous_T, strict_T = self._totals(may_T, least, d_T)
            inside_T = self._below(generous_T * _tilted(params.top_p, d_T))
            may_T = np.minimum(may_T, self._fall(np.maximum(inside_T - 1, 0)))
            inside_T = self._below(strict_T * _tilted(params.top_p, -d_T))
            must_T = np.minimum(must_T, self._fall(inside_T))
        fall_T = may_T + d_T
        count_T = np.maximum(self._count(fall_T, "right"), self.kept_T)
        return Cuts(count_T, np.minimum(self._count(must_T - d_T, "left"), count_T), fall_T)

    def _totals(self, may_T: F64Array, least: float, d_T: F64Array) -> tuple[F64Array, F64Array]:
        """The largest and the smallest mass that top_p may take its share of."""
        if self.whole_T is not None:
            return self.whole_T, self.whole_T
        most_T = self._count(may_T + d_T, "right")
        fewest_T = self._count(np.full(d_T.size, least) - d_T, "right")
        if self.params.top_k:
            fewest_T = np.minimum(fewest_T, self.params.top_k)
        return self._mass(most_T), self._mass(np.maximum(fewest_T, 1))

    def _fall(self, place_T: I64Array | int) -> F64Array:
        """The fall of the token at a place of its row, counted from 0; inf past the head."""
        at_T = self.start_R[:-1] + place_T
        inside_T = at_T < self.start_R[1:]
        last = max(self.fall_N.size - 1, 0)
        return np.where(inside_T, self.fall_N[np.minimum(at_T, last)], np.inf)

    def _mass(self, count_T: I64Array) -> F64Array:
        """Mass of the best `count_T` tokens, at least one."""
        last_T = self.start_R[:-1] + count_T - 1
        gaps_T = -self.fall_N[last_T].astype(np.float32)
        mass_T: F64Array = self.above_N[last_T] + integer_masses(gaps_T)
        return mass_T

    def _below(self, mass_T: F64Array) -> I64Array:
        """How many tokens of each row have less than `mass_T` above them."""
        below_N = self.above_N < np.repeat(mass_T, np.diff(self.start_R))
        sums_R = np.concatenate([[0], np.cumsum(below_N)])
        return _between(sums_R, self.start_R)

    def _count(self, fall_T: F64Array, side: str) -> I64Array:
        """How many tokens of each row fall by less ("left") or no more ("right") than `fall_T`."""
        axis_T = np.arange(fall_T.size) * _ROW
        axis_N = np.minimum(self.fall_N, _DEEPEST) + np.repeat(axis_T, np.diff(self.start_R))
        wanted_T = np.clip(fall_T, -1.0, _DEEPEST) + axis_T
        found_T = np.searchsorted(axis_N, wanted_T, "left" if side == "left" else "right")
        return found_T - self.start_R[:-1]


def spans(start_R: I64Array, rows_P: I64Array) -> tuple[I64Array, I64Array]:
    """Places of the elements of some rows, row after row, and where those rows then start."""
    size_P = np.diff(start_R)[rows_P]
    spans_R = np.concatenate([[0], np.cumsum(size_P)])
    at_N = np.arange(spans_R[-1]) + np.repeat(start_R[rows_P] - spans_R[:-1], size_P)
    return at_N, spans_R


def has_filters(params: SamplingParams, vocab_size: int) -> bool:
    """Whether any token can be masked."""
    some = params.min_p > 0.0 or 0 < params.top_k < vocab_size or params.top_p < 1.0
    return params.temperature > 0.0 and some


def heads(scores_TV: F32Array, params: SamplingParams, reach: float) -> Heads:
    """The heads of rows of shifted scores, deep enough for `cuts` up to `reach` nats of score.

    What survives is what `sampling.filters.mask_scores` keeps, to the token. Raises EngineError
    where a row has no finite maximum.
    """
    rows, vocab_size = scores_TV.shape
    if params.top_k >= vocab_size:
        params = _without_top_k(params)
    best_T = scores_TV.max(axis=1)
    if not np.isfinite(best_T).all():
        raise EngineError("the logits have no finite maximum; the model's output is unusable")
    nucleus_only = params.top_p < 1.0 and not params.top_k and params.min_p == 0.0
    whole_T = _whole_masses(scores_TV, best_T) if nucleus_only else None
    floor_T = _floors(scores_TV, best_T, params, reach, whole_T) - np.float32(reach)
    floor_T = np.maximum(floor_T, np.finfo(np.float32).min)
    row_N, id_N = (places[::-1] for places in _places(scores_TV >= floor_T[:, None]))
    # Stable, so that of equal scores the higher id comes first, as in the sampler.
    order_N = np.lexsort((-scores_TV[row_N, id_N], row_N))
    row_N, id_N = row_N[order_N], id_N[order_N]
    start_R = np.searchsorted(row_N, np.arange(rows + 1))
    score_N = scores_TV[row_N, id_N]
    fall_N = best_T.astype(np.float64)[row_N] - score_N
    mass_N = integer_masses(score_N - best_T[row_N])
    kept_N = _kept_first(score_N, best_T[row_N], start_R, params)
    above_N = np.cumsum(mass_N) - mass_N
    above_N -= np.repeat(above_N[start_R[:-1]], np.diff(start_R))
    if params.top_p < 1.0:
        total_T = whole_T if whole_T is not None else _sums(np.where(kept_N, mass_N, 0), start_R)
        kept_N &= above_N < _needed(total_T, params.top_p)[row_N]
    return Heads(
        params,
        start_R,
        id_N.astype(np.int32),
        score_N,
        fall_N,
        best_T,
        _sums(kept_N.astype(np.int64), start_R),
        above_N.astype(np.float64),
        None if whole_T is None else whole_T.astype(np.float64),
    )


def _without_top_k(params: SamplingParams) -> SamplingParams:
    return SamplingParams(temperature=params.temperature, top_p=params.top_p, min_p=params.min_p)


def _least_fall(params: SamplingParams) -> float:
    """How far below the best min_p lets a score lie."""
    return -float(np.float32(math.log(params.min_p))) if params.min_p > 0.0 else math.inf


def _tilted(top_p: float, d_T: F64Array) -> F64Array:
    """The share of probability whose odds are exp(d) times those of `top_p`."""
    against = float(np.float32(1) - np.float32(top_p))
    tilted_T: F64Array = (1.0 - against) / (1.0 - against + against * np.exp(-d_T))
    return tilted_T


def _sums(value_N: I64Array, start_R: I64Array) -> I64Array:
    """Sums of each row, exact even where the running sum over rows wraps around."""
    return _between(np.concatenate([[0], np.cumsum(value_N)]), start_R)


def _between(running_N: I64Array, start_R: I64Array) -> I64Array:
    sums_T: I64Array = running_N[start_R[1:]] - running_N[start_R[:-1]]
    return sums_T


def _needed(total_T: I64Array, top_p: float) -> I64Array:
    """The mass a nucleus reaches, as `sampling.filters` rounds it."""
    numerator, denominator = float(np.float32(1) - np.float32(top_p)).as_integer_ratio()
    totals_T = total_T.astype(object)
    needed_T: I64Array = (totals_T - totals_T * numerator // denominator).astype(np.int64)
    return np.maximum(needed_T, 1)


def _whole_masses(scores_TV: F32Array, best_T: F32Array) -> I64Array:
    """The mass of every row."""
    rows, vocab_size = scores_TV.shape
    total_T = np.empty(rows, np.int64)
    lib.tg_masses(
        rows,
        vocab_size,
        ffi.from_buffer("float[]", np.ascontiguousarray(scores_TV)),
        ffi.from_buffer("float[]", np.ascontiguousarray(best_T)),
        ffi.from_buffer("int64_t[]", total_T),
    )
    return total_T


def _places(near_TV: BoolArray) -> tuple[I64Array, I64Array]:
    """Row and column of what is set, ascending; much faster than asking in two dimensions."""
    return np.divmod(np.flatnonzero(near_TV), near_TV.shape[1])


def _floors(
    scores_TV: F32Array,
    best_T: F32Array,
    params: SamplingParams,
    reach: float,
    whole_T: I64Array | None,
) -> F32Array:
    """Scores that no token a filter keeps lies below, row by row."""
    if params.min_p > 0.0:
        least = np.float32(_least_fall(params))
        slack_T = _ROUNDING * np.maximum(np.abs(best_T), least)
        return (best_T - least - slack_T).astype(np.float32)
    if whole_T is None:
        return _top_k_floors(scores_TV, params.top_k)
    floor_T = np.full_like(best_T, -np.inf)
    share = float(_tilted(params.top_p, np.array([reach]))[0])
    needed_T = np.maximum(_needed(whole_T, params.top_p), share * whole_T)
    pending_P = np.arange(best_T.size)
    for depth in _DEPTHS:
        scores_PV = scores_TV if pending_P.size == best_T.size else scores_TV[pending_P]
        floor_P = best_T[pending_P] - depth
        row_N, id_N = _places(scores_PV >= floor_P[:, None])
        start_R = np.searchsorted(row_N, np.arange(pending_P.size + 1))
        mass_N = integer_masses(scores_PV[row_N, id_N] - best_T[pending_P[row_N]])
        enough_P = _sums(mass_N, start_R) >= needed_T[pending_P]
        floor_T[pending_P[enough_P]] = floor_P[enough_P]
        pending_P = pending_P[~enough_P]
        if pending_P.size == 0:
            break
    return floor_T


def _top_k_floors(scores_TV: F32Array, k: int) -> F32Array:
    """A score that at least k + 1 tokens reach: so many groups of tokens have a best one there."""
    rows, vocab_size = scores_TV.shape
    group = max(1, min(_GROUP, vocab_size // (k + 1)))
    width = vocab_size // group
    grouped_TGW = scores_TV[:, : group * width].reshape(rows, group, width)
    place = width - 1 - k
    floor_T: F32Array = np.partition(grouped_TGW.max(axis=1), place, axis=1)[:, place]
    return floor_T


def _kept_first(
    score_N: F32Array, best_N: F32Array, start_R: I64Array, params: SamplingParams
) -> BoolArray:
    """What min_p and top_k keep."""
    kept_N = np.ones(score_N.size, np.bool_)
    if params.min_p > 0.0:
        kept_N &= score_N - best_N >= np.float32(math.log(params.min_p))
    if params.top_k:
        at_T = start_R[:-1] + params.top_k - 1
        inside_T = at_T < start_R[1:]
        kth_T = np.where(inside_T, score_N[np.minimum(at_T, score_N.size - 1)], -np.inf)
        kept_N &= score_N >= np.repeat(kth_T, np.diff(start_R))
    return kept_N
