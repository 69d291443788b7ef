"""From raw logits to the scores a token is drawn from, in vLLM's order and with its meaning.

Matched: vLLM 0.32.0, V1 sampler, PyTorch path (`v1/sample/sampler.py`, `ops/penalties.py`,
`ops/topk_topp_sampler.py: apply_top_k_top_p_pytorch`, `logits_processor/builtin.py`):

1. logit bias is added;
2. repetition penalty over prompt and output: positive logits times 1/penalty, others times penalty;
3. frequency penalty times the count in the output is subtracted, then
4. presence penalty of tokens in the output is subtracted;
5. greedy (temperature 0) stops here; else scores = logits / temperature, at least 0.01;
6. min_p masks what is less probable than min_p times the best;
7. top_k masks what lies below the k-th largest score; ties with it stay;
8. top_p sorts ascending and masks while the running sum is <= 1 - p; the last one always stays.

Two things are fixed here that vLLM leaves to the device. Probabilities are integers
(`sampling.masses`) instead of float32 sums; and of equal scores at the top_p cut the higher id
stays, where an unstable sort leaves it open. Masked scores are -inf; inputs are never written to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tidegate.errors import EngineError
from tidegate.sampling.masses import F32Array, I64Array, best_score, block_sums, integer_masses
from tidegate.sampling.params import SamplingParams

MIN_TEMPERATURE = 0.01
"""vLLM raises lower positive temperatures to this; dividing by less overflows float32."""

_MASKED = np.float32(-np.inf)
_REACHES = tuple(np.float32(nats) for nats in (4, 8, 12, 16, 20, 24, 30, np.inf))


@dataclass(frozen=True, slots=True, eq=False)
class PenaltyState:
    """The distinct tokens of a sequence, ascending, and how often each is in the output.

    `ids_D` int64, `counts_D` int64; a token that is only in the prompt has count 0. A step costs
    O(D). Start with `of`, go on with `advance`; states are never changed.
    """

    ids_D: I64Array
    counts_D: I64Array

    @staticmethod
    def of(prompt_ids: Iterable[int], output_ids: Iterable[int] = ()) -> PenaltyState:
        """The state after `output_ids` were generated from `prompt_ids`."""
        output_N = np.fromiter(output_ids, np.int64)
        every_N = np.concatenate([np.fromiter(prompt_ids, np.int64), output_N])
        ids_D = np.unique(every_N)
        places_N = np.searchsorted(ids_D, output_N)
        return PenaltyState(ids_D, np.bincount(places_N, minlength=ids_D.size))

    def advance(self, token: int) -> PenaltyState:
        """The state after one more output token."""
        place = int(np.searchsorted(self.ids_D, token))
        if place < self.ids_D.size and self.ids_D[place] == token:
            counts_D = self.counts_D.copy()
            counts_D[place] += 1
            return PenaltyState(self.ids_D, counts_D)
        return PenaltyState(np.insert(self.ids_D, place, token), np.insert(self.counts_D, place, 1))


def process_logits(
    logits_V: F32Array,
    params: SamplingParams,
    prompt_ids: Iterable[int] = (),
    output_ids: Iterable[int] = (),
) -> F32Array:
    """Scores_V (float32) of the next token, -inf where a filter masks it.

    Returns `logits_V` itself where nothing is asked for. Raises EngineError where a filter is on
    and the logits have no finite maximum, or a token id lies outside the vocabulary.
    """
    state = PenaltyState.of(prompt_ids, output_ids) if needs_penalties(params) else None
    return mask_scores(shift_logits(logits_V, params, state), params)


def needs_penalties(params: SamplingParams) -> bool:
    """Whether `shift_logits` needs to know the sequence so far."""
    return (
        params.repetition_penalty != 1.0
        or params.frequency_penalty != 0.0
        or params.presence_penalty != 0.0
    )


def shift_logits(
    logits_V: F32Array, params: SamplingParams, state: PenaltyState | None
) -> F32Array:
    """Steps 1 to 5: bias, penalties, temperature.

    Element by element and correctly rounded, so equal logits give equal scores on every machine.
    `state` may be None where `needs_penalties` is false. Raises EngineError for a token id outside
    the vocabulary.
    """
    scores_V = logits_V
    if params.logit_bias:
        ids, biases = zip(*params.logit_bias, strict=True)
        ids_K = _checked(np.array(ids, np.int64), logits_V.size)
        scores_V = logits_V.copy()
        scores_V[ids_K] += np.array(biases, np.float32)
    if state is not None and needs_penalties(params):
        ids_D = _checked(state.ids_D, logits_V.size)
        scores_V = scores_V.copy() if scores_V is logits_V else scores_V
        scores_V[ids_D] = _penalised(scores_V[ids_D], params, state.counts_D)
    if params.temperature not in (0.0, 1.0):
        scores_V = scores_V / np.float32(max(params.temperature, MIN_TEMPERATURE))
    return scores_V


def mask_scores(scores_V: F32Array, params: SamplingParams) -> F32Array:
    """Steps 6 to 8: min_p, top_k, top_p; the same array where all are off or sampling is greedy.

    Raises EngineError where one is on and the scores have no finite maximum.
    """
    top_k = params.top_k if params.top_k < scores_V.size else 0
    if params.temperature == 0.0 or not (params.min_p > 0.0 or top_k > 0 or params.top_p < 1.0):
        return scores_V
    best = best_score(scores_V)
    if params.min_p > 0.0:
        kept_V = scores_V - best >= np.float32(math.log(params.min_p))
        scores_V = np.where(kept_V, scores_V, _MASKED)
    if top_k > 0:
        kept_V = scores_V >= _kth_largest(scores_V, best, top_k)
        scores_V = np.where(kept_V, scores_V, _MASKED)
    if params.top_p < 1.0:
        # What min_p and top_k leave is short, so it is looked at alone.
        if params.min_p > 0.0 or top_k > 0:
            live_N = np.flatnonzero(scores_V > _MASKED)
            kept_N = live_N[_nucleus(scores_V[live_N], best, params.top_p)]
        else:
            kept_N = _nucleus(scores_V, best, params.top_p)
        masked_V = np.full_like(scores_V, _MASKED)
        masked_V[kept_N] = scores_V[kept_N]
        scores_V = masked_V
    return scores_V


def _checked(ids_D: I64Array, vocab_size: int) -> I64Array:
    """Ascending ids, refused unless they lie in the vocabulary."""
    if ids_D.size and (ids_D[0] < 0 or ids_D[-1] >= vocab_size):
        raise EngineError("a token id lies outside the vocabulary", vocab_size=vocab_size)
    return ids_D


def _penalised(logits_D: F32Array, params: SamplingParams, counts_D: I64Array) -> F32Array:
    repetition = np.float32(params.repetition_penalty)
    logits_D = logits_D * np.where(logits_D > 0, np.float32(1) / repetition, repetition)
    logits_D -= np.float32(params.frequency_penalty) * counts_D.astype(np.float32)
    logits_D -= np.float32(params.presence_penalty) * (counts_D > 0).astype(np.float32)
    return logits_D


def _kth_largest(scores_V: F32Array, best: np.float32, k: int) -> np.float32:
    """The k-th largest score, 1 <= k < V, selected among those near the best only."""
    for reach in _REACHES:
        near_V = scores_V >= best - reach
        if np.count_nonzero(near_V) >= k:
            break
    head_N = np.flatnonzero(near_V)
    place = head_N.size - k
    kth: np.float32 = np.partition(scores_V[head_N], place)[place]
    return kth


def _nucleus(scores_V: F32Array, best: np.float32, top_p: float) -> I64Array:
    """Ids that top_p keeps.

    Ascending, an id goes while the sum up to and with it is <= (1 - p) * total; counted from the
    best, it stays while the sum before it is < total - (1 - p) * total. So only a head that holds
    that much mass is sorted.
    """
    total = sum(block_sums(scores_V, best))
    # 1 - p is taken in float32, as vLLM does; from there on the arithmetic is exact.
    numerator, denominator = float(np.float32(1) - np.float32(top_p)).as_integer_ratio()
    needed = max(1, total - total * numerator // denominator)
    for reach in _REACHES:
        head_N = np.flatnonzero(scores_V >= best - reach)
        masses_N = integer_masses(scores_V[head_N] - best)
        if int(masses_N.sum()) >= needed:
            break
    descending_N = np.argsort(scores_V[head_N], kind="stable")[::-1]
    sums_N = np.cumsum(masses_N[descending_N])
    kept = 1 + int(np.searchsorted(sums_N, needed, side="left"))
    return head_N[descending_N[:kept]]
