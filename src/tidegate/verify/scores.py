"""How plausible is each token that was served, given the model and the seed it was drawn with?

With s = z + T·G, the logits plus the temperature times the noise, over the tokens that survive the
filters, a served token t has the margin Δ = max s - s_t: 0 for the token that re-execution draws,
small where two machines' floats disagree, large where somebody chose otherwise. Δ is Token-DiFR's
score (arXiv 2511.20621); ln Φ(-Δ / (√2 σ)) is GM-LS (arXiv 2511.02620), the same order
for any σ. At T = 0 there is no noise and Δ is a difference of logits.

A token that a filter removed has Δ = inf, though it may lie a rounding error beyond the cut. The
*boundary margin* is the smallest δ for which t is a possible answer of a machine whose logits are
each off by at most δ / 2: t may survive its filters, and no token that must survive beats t by more
than δ. So an honest token never exceeds twice the largest logit error, and where no filter is on
the two margins are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ConfigError, EngineError
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores_filters import has_filters
from tidegate.verify.scores_margins import Margins, Scoring, filtered, unfiltered
from tidegate.verify.scores_normal import log_ndtr
from tidegate.verify.scores_rows import (
    Draws,
    F32Array,
    F64Array,
    I32Array,
    I64Array,
    Ids,
    shift_rows,
)

_CHUNK = 1 << 22
"""Scores looked at together; bounds the memory beside the logits."""

SAFE, SUSPICIOUS, DANGEROUS = 0, 1, 2
"""Tiers of arXiv 2511.02620: within the margin; beyond it, of small logit rank; neither."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """What re-execution says of each served token; arrays over tokens [T], margins [M, T].

    expected_T: the token that re-execution draws. margin_T: Δ, inf where filtered.
    boundary_margin_T: see above. logit_rank_T: how many other raw logits are as large or
    larger, so never more than R tokens have a rank below R. gumbel_rank_T: how many survivors have
    a larger sum; a lower bound where the margin is beyond `Scoring.margins`.
    plain_MT, admissible_MT: how many tokens have a margin, or a boundary margin, of at most each of
    `Scoring.margins`. share_T: the served token's share of the weights Φ(-x) / Φ(x), with x =
    margin / (√2 σ), of all tokens within the largest margin: between two tokens, its probability.
    """

    expected_T: I32Array
    margin_T: F64Array
    boundary_margin_T: F64Array
    logit_rank_T: I64Array
    gumbel_rank_T: I64Array
    plain_MT: I64Array
    admissible_MT: I64Array
    share_T: F64Array


def score_tokens(
    logits_TV: F32Array,
    served: Ids,
    params: SamplingParams,
    draws: Draws | None = None,
    *,
    scoring: Scoring | None = None,
    prompt_ids: Ids = (),
    output_ids: Ids | None = None,
    start: int = 0,
) -> TokenScores:
    """Scores of tokens `start` to `start + T` of an answer.

    logits_TV: float32, the verifier's raw logits for each. draws: each row's seed and position; may
    be None at temperature 0. prompt_ids, output_ids: the sequence, for penalties; output_ids is the
    whole answer, `served` where that is all of it.

    Raises EngineError for logits that are not float32 [T, V], hold a NaN or have no finite maximum,
    or for a token outside the vocabulary; ConfigError for missing draws.
    """
    scoring = scoring or Scoring()
    served_T: I64Array = np.asarray(served, np.int64)
    if logits_TV.dtype != np.float32 or logits_TV.ndim != 2 or len(logits_TV) != served_T.size:
        raise EngineError(
            f"{served_T.size} tokens need float32 logits [{served_T.size}, V], "
            f"not {logits_TV.dtype} {list(logits_TV.shape)}"
        )
    rows, vocab_size = logits_TV.shape
    if served_T.size and not 0 <= served_T.min() <= served_T.max() < vocab_size:
        raise EngineError("a served token lies outside the vocabulary", vocab_size=vocab_size)
    if params.temperature == 0.0:
        draws = None
    elif draws is None or draws.positions_T.size != rows:
        raise ConfigError(
            f"{rows} sampled tokens need as many draws", temperature=params.temperature
        )
    sequence = served if output_ids is None else output_ids
    chunks = []
    for part in _parts(rows, vocab_size):
        scores_TV = shift_rows(logits_TV[part], params, prompt_ids, sequence, start + part.start)
        rows_draws = None if draws is None else draws.rows(part)
        if rows_draws is not None and has_filters(params, vocab_size):
            chunk = filtered(scores_TV, served_T[part], params, rows_draws, scoring)
        else:
            chunk = unfiltered(scores_TV, served_T[part], params, rows_draws, scoring)
        chunks.append((_ranks(logits_TV[part], served_T[part]), chunk))
    return _joined(chunks, len(scoring.margins))


def gm_ls(margin_T: F64Array, sigma: float) -> F64Array:
    """Gumbel-max likelihood score ln Φ(-Δ / (√2 σ)); -inf for an infinite margin."""
    score_T: F64Array = log_ndtr(-margin_T / (math.sqrt(2) * sigma))
    return score_T


def tiers(scores: TokenScores, margin: float, rank: int) -> NDArray[np.int8]:
    """SAFE where the boundary margin is at most `margin`, else SUSPICIOUS where the served token is
    among the `rank` largest raw logits, else DANGEROUS. int8 [T]."""
    beyond_T = scores.boundary_margin_T > margin
    worse_T = np.where(scores.logit_rank_T < rank, SUSPICIOUS, DANGEROUS)
    return np.where(beyond_T, worse_T, SAFE).astype(np.int8)


def _parts(rows: int, vocab_size: int) -> Iterator[slice]:
    step = max(1, _CHUNK // vocab_size)
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _ranks(logits_TV: F32Array, served_T: I64Array) -> I64Array:
    served_logits_T = logits_TV[np.arange(served_T.size), served_T]
    at_least_T: I64Array = np.count_nonzero(logits_TV >= served_logits_T[:, None], axis=1)
    return at_least_T - 1


def _joined(chunks: list[tuple[I64Array, Margins]], margins: int) -> TokenScores:
    if not chunks:
        none_T, none_MT = np.empty(0, np.int64), np.empty((margins, 0), np.int64)
        floats_T, ids_T = np.empty(0), np.empty(0, np.int32)
        return TokenScores(ids_T, floats_T, floats_T, none_T, none_T, none_MT, none_MT, floats_T)
    joined = {
        field.name: np.concatenate([getattr(chunk, field.name) for _, chunk in chunks], axis=-1)
        for field in fields(Margins)
    }
    return TokenScores(logit_rank_T=np.concatenate([ranks_T for ranks_T, _ in chunks]), **joined)
