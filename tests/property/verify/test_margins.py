"""What an honest machine can do to a margin, whatever the model and the parameters."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.sampling.filters import process_logits
from tidegate.sampling.gumbel import greedy, sample
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores import score_tokens
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws

PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.2, 0.7, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 20]),
    top_p=st.sampled_from([1.0, 0.95, 0.6, 1e-3]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
)


@settings(max_examples=150, deadline=None)
@given(
    params=PARAMS,
    seed=st.binary(min_size=16, max_size=16),
    shape=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.0, 0.3, 2.0, 6.0]),
    grid=st.sampled_from([0.0, 0.125]),
    error=st.sampled_from([0.0, 1e-4, 0.01, 0.3]),
    vocab_size=st.integers(1, 200),
)
def test_an_honest_token_never_exceeds_twice_the_logit_error(
    params, seed, shape, spread, grid, error, vocab_size
):
    rng = np.random.default_rng(shape)
    served_V = rng.normal(0, spread, vocab_size)
    if grid:
        served_V = np.round(served_V / grid) * grid
    served_V = served_V.astype(np.float32)
    own_V = (served_V + rng.choice([-error, error], vocab_size)).astype(np.float32)
    scores_V = process_logits(served_V, params)
    token = sample(scores_V, seed, 3) if params.temperature else greedy(scores_V)
    scores = score_tokens(
        own_V[None],
        [token],
        params,
        Draws.of([seed], [3]),
        scoring=Scoring(margins=(0.7,)),
    )
    worst = float(np.abs(own_V.astype(np.float64) - served_V).max())
    assert scores.boundary_margin_T[0] <= 2 * worst + 2e-5
    assert scores.boundary_margin_T[0] <= scores.margin_T[0]
    assert scores.admissible_MT[0, 0] >= scores.plain_MT[0, 0] >= 1
