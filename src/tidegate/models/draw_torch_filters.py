"""Steps 1 to 8 of `sampling.filters` for many rows at once, in torch operations, on any device.

The same float operations in the same order, each rounded by itself, and the same integer masses:
rows come out bit for bit as `filters.process_logits` gives them. `draw_torch` explains why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tidegate.errors import EngineError
from tidegate.sampling.filters import MIN_TEMPERATURE, PenaltyState, needs_penalties
from tidegate.sampling.masses import (
    EXP_TERMS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    MASS_BITS,
    REACH,
    I64Array,
)
from tidegate.sampling.params import SamplingParams

_SHARE_BITS = 24
"""1 - top_p as float32 is a multiple of 2**-24."""


def shift_rows(
    logits_NV: Tensor, params: Sequence[SamplingParams], states: Sequence[PenaltyState | None]
) -> Tensor:
    """Biases and penalties of each row, steps 1 to 4; `states` as in `filters.shift_logits`.

    Returns the tensor itself where nothing is asked for; it is never written to. Raises EngineError
    for a token id outside the vocabulary.
    """
    copied = False
    for row, (one, state) in enumerate(zip(params, states, strict=True)):
        if not (one.logit_bias or (state is not None and needs_penalties(one))):
            continue
        logits_NV = logits_NV if copied else logits_NV.clone()
        copied = True
        if one.logit_bias:
            ids, biases = zip(*one.logit_bias, strict=True)
            ids_K = _ids(logits_NV, np.array(ids, np.int64))
            logits_NV[row, ids_K] += _float32(logits_NV, biases)
        if state is not None and needs_penalties(one):
            ids_D = _ids(logits_NV, state.ids_D)
            logits_NV[row, ids_D] = _penalised(logits_NV[row, ids_D], one, state)
    return logits_NV


def mask_rows(scores_NV: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Temperature, min_p, top_k and top_p of each row, steps 5 to 8; -inf where a filter masks.

    scores: float32 [N, V], after biases and penalties. Returns the tensor itself where nothing is
    asked for; it is never written to.
    """
    drawn = [one.temperature > 0 for one in params]
    if any(on and one.temperature != 1.0 for on, one in zip(drawn, params, strict=True)):
        degrees = [
            max(one.temperature, MIN_TEMPERATURE) if one.temperature else 1 for one in params
        ]
        scores_NV = scores_NV / _column(scores_NV, degrees)
    best_N1 = scores_NV.amax(1, keepdim=True)
    least = [one.min_p if on else 0.0 for on, one in zip(drawn, params, strict=True)]
    if any(least):
        logs = [math.log(p) if p else -math.inf for p in least]
        kept_NV = scores_NV - best_N1 >= _column(scores_NV, logs)
        scores_NV = torch.where(kept_NV, scores_NV, -torch.inf)
    vocab_size = scores_NV.shape[1]
    counts = [
        one.top_k if on and one.top_k < vocab_size else 0
        for on, one in zip(drawn, params, strict=True)
    ]
    if any(counts):
        scores_NV = _top_k(scores_NV, counts)
    shares = [one.top_p if on else 1.0 for on, one in zip(drawn, params, strict=True)]
    if any(share < 1.0 for share in shares):
        scores_NV = _top_p(scores_NV, best_N1, shares)
    return scores_NV


def _top_k(scores_NV: Tensor, counts: Sequence[int]) -> Tensor:
    largest_NK = torch.topk(scores_NV, max(counts), dim=1).values
    places_N = torch.tensor([max(count, 1) - 1 for count in counts], device=scores_NV.device)
    kth_N1 = largest_NK.gather(1, places_N[:, None])
    off_N = torch.tensor([count == 0 for count in counts], device=scores_NV.device)
    return torch.where((scores_NV >= kth_N1) | off_N[:, None], scores_NV, -torch.inf)


def _top_p(scores_NV: Tensor, best_N1: Tensor, shares: Sequence[float]) -> Tensor:
    # Turned round first, so that a stable descending sort puts the higher of equal ids in front.
    turned_NV = scores_NV.flip(1)
    sorted_NV, order_NV = torch.sort(turned_NV, dim=1, descending=True, stable=True)
    masses_NV = _integer_masses(sorted_NV - best_N1)
    sums_NV = masses_NV.cumsum(1)
    total_N1 = sums_NV[:, -1:]
    cut = [int((np.float32(1) - np.float32(share)) * 2**_SHARE_BITS) for share in shares]
    cut_N1 = torch.tensor(cut, device=scores_NV.device)[:, None]
    # total * cut has up to 84 bits, so it is shifted in two parts.
    low_N1 = (total_N1 & ((1 << _SHARE_BITS) - 1)) * cut_N1 >> _SHARE_BITS
    needed_N1 = (total_N1 - ((total_N1 >> _SHARE_BITS) * cut_N1 + low_N1)).clamp_min(1)
    off_N1 = torch.tensor([share >= 1.0 for share in shares], device=scores_NV.device)[:, None]
    kept_NV = (sums_NV - masses_NV < needed_N1) | off_N1
    kept_NV = torch.zeros_like(kept_NV).scatter(1, order_NV, kept_NV).flip(1)
    return torch.where(kept_NV, scores_NV, -torch.inf)


def _integer_masses(gaps_NV: Tensor) -> Tensor:
    """See `masses.integer_masses`."""
    gaps_NV = gaps_NV.clamp_min(-float(REACH))
    halvings_NV = (gaps_NV * float(LOG2_E)).round()
    rest_NV = gaps_NV - halvings_NV * float(LN2_HIGH)
    rest_NV = rest_NV - halvings_NV * float(LN2_LOW)
    power_NV = torch.full_like(rest_NV, float(EXP_TERMS[0]))
    for term in EXP_TERMS[1:]:
        power_NV = power_NV * rest_NV
        power_NV = power_NV + float(term)
    masses_NV = (power_NV * 2.0**24).long() << (MASS_BITS - 24)
    return masses_NV >> (-halvings_NV).long()


def _penalised(logits_D: Tensor, params: SamplingParams, state: PenaltyState) -> Tensor:
    repetition = np.float32(params.repetition_penalty)
    shrink, grow = float(np.float32(1) / repetition), float(repetition)
    counts_D = torch.from_numpy(state.counts_D).to(logits_D.device)
    logits_D = logits_D * torch.where(logits_D > 0, shrink, grow)
    logits_D = logits_D - float(np.float32(params.frequency_penalty)) * counts_D.float()
    return logits_D - float(np.float32(params.presence_penalty)) * (counts_D > 0).float()


def _ids(logits_NV: Tensor, ids_D: I64Array) -> Tensor:
    """Ascending ids on the logits' device."""
    vocab_size = logits_NV.shape[1]
    if ids_D.size and (ids_D[0] < 0 or ids_D[-1] >= vocab_size):
        raise EngineError("a token id lies outside the vocabulary", vocab_size=vocab_size)
    return torch.from_numpy(ids_D).to(logits_NV.device)


def _column(like_NV: Tensor, values: Sequence[float]) -> Tensor:
    return _float32(like_NV, values)[:, None]


def _float32(like_NV: Tensor, values: Sequence[float]) -> Tensor:
    """Values on the tensor's device, rounded as numpy rounds Python floats."""
    return torch.from_numpy(np.array(values, np.float32)).to(like_NV.device)
