"""IPT-LS: how plausible is a token drawn by inverse transform sampling?

One uniform number u a token walks down the cumulative distribution in order of ids
(`sampling.inverse`). Another machine's probabilities differ a little, which moves the ends of every
token's interval; IPT-LS (arXiv 2511.02620) puts the noise on u instead and scores a
token by ln P(u + N(0, σ²) lies in its interval), with σ in units of probability.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ConfigError, EngineError
from tidegate.sampling.masses import integer_masses
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores_filters import has_filters, heads
from tidegate.verify.scores_normal import ndtr
from tidegate.verify.scores_rows import F32Array, F64Array, I64Array, row_of

_CHUNK = 1 << 19
_WINDOW = 9.0
"""Standard deviations of u beyond which a token has less probability than FLOOR."""

FLOOR = 1e-12
"""Added to every probability before its logarithm, as published; the least score is ln FLOOR."""


@dataclass(frozen=True, slots=True, eq=False)
class InverseScores:
    """expected_T: the token u gives. score_T: IPT-LS, nats. distance_T: probability between u and
    the served token's interval, 0 inside, inf for a token that cannot be drawn. admissible_T: how
    many tokens score at least `threshold`."""

    expected_T: I64Array
    score_T: F64Array
    distance_T: F64Array
    admissible_T: I64Array


def score_inverse(
    scores_TV: F32Array,
    served_T: I64Array,
    uniforms: tuple[int, ...],
    params: SamplingParams,
    *,
    sigma: float,
    threshold: float,
) -> InverseScores:
    """Score tokens that `sampling.inverse.invert` drew with 64-bit `uniforms`, one a row.

    scores_TV: float32, shifted (`scores_rows.shift_rows`) but not masked. Raises ConfigError for a
    sigma that is not positive, a uniform out of range or a wrong number of them; EngineError for
    scores without a finite maximum.
    """
    if not sigma > 0 or len(uniforms) != len(served_T):
        raise ConfigError("IPT-LS needs a positive sigma and one uniform number a token")
    if any(not 0 <= uniform < 1 << 64 for uniform in uniforms):
        raise ConfigError("a uniform draw is an integer in [0, 2**64)")
    rows, vocab_size = scores_TV.shape
    parts = [
        _score(
            _masses(scores_TV[part], params),
            np.asarray(served_T[part], np.int64),
            np.array(uniforms[part], object),
            sigma,
            threshold,
        )
        for part in _parts(rows, vocab_size)
    ]
    return InverseScores(
        np.concatenate([part.expected_T for part in parts]),
        np.concatenate([part.score_T for part in parts]),
        np.concatenate([part.distance_T for part in parts]),
        np.concatenate([part.admissible_T for part in parts]),
    )


def _parts(rows: int, vocab_size: int) -> Iterator[slice]:
    step = max(1, _CHUNK // vocab_size)
    for first in range(0, max(rows, 1), step):
        yield slice(first, min(first + step, rows))


def _masses(scores_TV: F32Array, params: SamplingParams) -> I64Array:
    """Integer masses, 0 where a filter masks."""
    if not has_filters(params, scores_TV.shape[1]):
        best_T = scores_TV.max(axis=1, initial=-np.inf)
        if not np.isfinite(best_T).all():
            raise EngineError("the logits have no finite maximum; the model's output is unusable")
        return integer_masses(scores_TV - best_T[:, None])
    tops = heads(scores_TV, params, 0.0)
    row_N = row_of(tops.start_R)
    kept_N = np.arange(row_N.size) - tops.start_R[row_N] < tops.kept_T[row_N]
    row_N = row_N[kept_N]
    masses_TV = np.zeros(scores_TV.shape, np.int64)
    masses_TV[row_N, tops.id_N[kept_N]] = integer_masses(tops.score_N[kept_N] - tops.best_T[row_N])
    return masses_TV


def _score(
    masses_TV: I64Array,
    served_T: I64Array,
    uniform_T: NDArray[np.object_],
    sigma: float,
    threshold: float,
) -> InverseScores:
    rows, vocab_size = masses_TV.shape
    ends_TV = np.cumsum(masses_TV, axis=1)
    total_T = ends_TV[:, -1]
    target_T = ((uniform_T * total_T.astype(object)) >> 64).astype(np.int64)
    expected_T = np.argmax(ends_TV > target_T[:, None], axis=1)

    u_T = (uniform_T / 2.0**64).astype(np.float64)
    at_T = np.arange(rows)
    mass_T, end_T = masses_TV[at_T, served_T], ends_TV[at_T, served_T]
    low_T, high_T = (end_T - mass_T) / total_T, end_T / total_T
    distance_T = np.maximum(np.maximum(low_T - u_T, u_T - high_T), 0.0)
    distance_T = np.where(expected_T == served_T, 0.0, distance_T)

    near_TV = (masses_TV > 0) & (ends_TV >= ((u_T - _WINDOW * sigma) * total_T)[:, None])
    near_TV &= ends_TV - masses_TV <= ((u_T + _WINDOW * sigma) * total_T)[:, None]
    row_N, id_N = np.divmod(np.flatnonzero(near_TV), vocab_size)
    end_N, mass_N = ends_TV[row_N, id_N], masses_TV[row_N, id_N]
    score_N = _interval_score(
        (end_N - mass_N) / total_T[row_N], end_N / total_T[row_N], u_T[row_N], sigma
    )
    return InverseScores(
        expected_T,
        _interval_score(low_T, high_T, u_T, sigma),
        np.where(mass_T > 0, distance_T, np.inf),
        np.bincount(row_N[score_N >= threshold], minlength=rows),
    )


def _interval_score(low_N: F64Array, high_N: F64Array, u_N: F64Array, sigma: float) -> F64Array:
    probability_N = ndtr((high_N - u_N) / sigma) - ndtr((low_N - u_N) / sigma)
    score_N: F64Array = np.log(np.maximum(probability_N, 0.0) + FLOOR)
    return score_N
