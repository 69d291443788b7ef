"""What two papers publish for scoring served tokens, told again plainly: the peer of our scores.

GM-LS (arXiv 2511.02620, MIT) scores one token at a time, Token-DiFR (arXiv 2511.20621, MIT) one
answer. Both work on torch tensors over the whole vocabulary: they sort it to filter, and GM-LS
sorts it again for the rank among raw logits. This is our own wording of the public code; it takes
the same steps on the same types wherever a step decides a score or takes time. Left out, in the
peer's favour, is what nothing reads afterwards: softmaxes and running sums beside GM-LS, and the
served token's bare probability beside Token-DiFR.

How `verify.scores` differs: it neither sorts the vocabulary nor draws noise for all of it, adds
integers where these add float32, and says more of each token (boundary margin, admissible sets).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from tidegate.sampling.params import SamplingParams

Tensor = Any
Draw = Callable[[int], Tensor]
"""The row's exponential variables, float32 [V]; Gumbel noise is minus their logarithm."""

_SMALLEST = 1e-12
"""What GM-LS raises smaller exponential variables to, and adds to its standard deviation."""


class Scored(NamedTuple):
    """One token. `margin` is inf where a filter removed it; `gm_ls` None for Token-DiFR."""

    margin: float
    logit_rank: int
    gm_ls: float | None


def generator(vocab_size: int, seed: int) -> Draw:
    """Noise as both papers' verifiers draw it: row after row from one torch generator."""
    source = torch.Generator().manual_seed(seed)
    return lambda _: torch.empty(vocab_size).exponential_(generator=source)


def gm_ls(
    logits_TV: Tensor, served: Sequence[int], params: SamplingParams, draw: Draw, sigma: float
) -> list[Scored]:
    """GM-LS, a token after the other. logits_TV: float32 [T, V]; `sigma` in nats."""
    found = []
    for row, token in enumerate(served):
        logits_V = logits_TV[row]
        order_V = torch.argsort(logits_V, descending=True)
        rank = int((order_V == token).nonzero()[0])
        noise_V = -torch.log(draw(row).clamp(min=_SMALLEST))
        kept_1V = torch.isfinite(_filtered(logits_V[None] / params.temperature, params))
        sum_V = logits_V + params.temperature * noise_V
        sum_V[~kept_1V[0]] = -math.inf
        margin = sum_V[sum_V.argmax()] - sum_V[token]
        z = (-margin / (sigma * math.sqrt(2) + _SMALLEST)).to(torch.float64)
        found.append(Scored(float(margin), rank, float(torch.special.log_ndtr(z))))
    return found


def token_difr(
    logits_TV: Tensor, served: Sequence[int], params: SamplingParams, draw: Draw
) -> list[Scored]:
    """Token-DiFR: margins, ranks and expected tokens of an answer. logits_TV: float32 [T, V]."""
    rows_T = torch.arange(len(served))
    served_T = torch.tensor(served)
    scaled_TV = logits_TV / params.temperature
    probability_TV = torch.softmax(_filtered(scaled_TV, params), dim=-1)
    above_TV = logits_TV > logits_TV[rows_T, served_T][:, None]
    removed_TV = ~torch.isfinite(_filtered(scaled_TV, params))
    exponential_TV = torch.stack([draw(row) for row in range(len(served))])
    race_TV = probability_TV / exponential_TV
    expected_T = race_TV.argmax(dim=-1)
    ahead_T = (race_TV > race_TV[rows_T, served_T][:, None]).sum(dim=-1)
    sum_TV = logits_TV - torch.log(exponential_TV) * params.temperature
    sum_TV[removed_TV] = -math.inf
    margin_T = sum_TV[rows_T, sum_TV.argmax(dim=-1)] - sum_TV[rows_T, served_T]
    rank_T = above_TV.sum(dim=-1)
    # The paper's result holds a Python number of each, token by token.
    table = [column.tolist() for column in (margin_T, rank_T, expected_T, ahead_T)]
    return [Scored(margin, rank, None) for margin, rank, _, _ in zip(*table, strict=True)]


def _filtered(scores_TV: Tensor, params: SamplingParams) -> Tensor:
    """Top-k and top-p as in vLLM's PyTorch sampler: sort everything, mask, sort back."""
    vocab_size = scores_TV.shape[-1]
    sorted_TV, index_TV = scores_TV.sort(dim=-1, descending=False)
    kth_T1 = sorted_TV[:, vocab_size - (params.top_k or vocab_size), None]
    sorted_TV = sorted_TV.masked_fill(sorted_TV < kth_T1, -math.inf)
    sum_TV = torch.cumsum(sorted_TV.softmax(dim=-1), dim=-1)
    masked_TV = sum_TV <= 1 - params.top_p
    masked_TV[:, -1] = False
    sorted_TV = sorted_TV.masked_fill(masked_TV, -math.inf)
    return sorted_TV.scatter(dim=-1, index=index_TV, src=sorted_TV)
