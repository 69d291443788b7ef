"""Microseconds a token that scoring takes, beside the published functions on the same tensors.

Both read the same logits of a real model after each token of a real prompt, on one thread, taking
turns. Three served tokens of four are what re-execution draws, the fourth is the prompt's own: more
to look into than honest answers hold. Each side draws noise its own way when timed; once, untimed,
the peer is given our noise, and then margins and likelihood scores have to be equal.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from tidegate.bench import verify_reference as reference
from tidegate.bench.figures import Figure, at_least, at_most, report
from tidegate.models.cache import Progress
from tidegate.models.port import F32Array
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores import gm_ls, score_tokens
from tidegate.verify.scores_rows import UNIT, Draws, F64Array, sums

SETTINGS: Mapping[str, SamplingParams] = {
    # What both papers' code has as defaults.
    "filters": SamplingParams(temperature=1.0, top_k=50, top_p=0.95),
    "plain": SamplingParams(temperature=1.0),
}
SIGMA = 1.0
"""Nats; the default of GM-LS's code."""

LOWEST = -25.0
"""GM-LS's code raises lower scores to this."""

OFF_EVERY = 4
EQUAL = 1e-5
FASTER = 20.0
SEED = bytes(range(16))


@dataclass(frozen=True, slots=True)
class Sample:
    """logits_TV: float32, before each token of a text; `text`: those tokens, [T]."""

    logits_TV: F32Array
    text: tuple[int, ...]

    def served(self, params: SamplingParams) -> list[int]:
        """What was served: mostly what re-execution draws."""
        draws = Draws.along(SEED, len(self.text))
        tokens: list[int] = score_tokens(
            self.logits_TV, self.text, params, draws
        ).expected_T.tolist()
        tokens[::OFF_EVERY] = self.text[::OFF_EVERY]
        return tokens


def measure(samples: Mapping[str, Sample], *, turns: int, progress: Progress) -> dict[str, Figure]:
    """Figures of each sample, named as in `scoring_speedup_*`."""
    figures: dict[str, Figure] = {}
    for name, sample in samples.items():
        ratios: dict[str, list[float]] = {}
        off, flips = 0.0, 0
        for setting, params in SETTINGS.items():
            progress(f"scoring, {name}", len(ratios) // 2, len(SETTINGS))
            with _one_thread():
                times = _take_turns(_runs(sample, params), turns)
                worst, flipped = differences(sample, params)
            off, flips = max(off, worst), flips + flipped
            for engine, seconds in times.items():
                each = [1e6 * one / len(sample.text) for one in seconds]
                figures[f"scoring.{name}.{setting}.{engine}_us"] = report(
                    statistics.median(each),
                    unit="us/token",
                    n=len(each),
                    how=f"one thread, {len(sample.text)} tokens, {_spread(each)}",
                )
            for peer in times.keys() - {"ours"}:
                pairs = zip(times[peer], times["ours"], strict=True)
                ratios[f"{peer}, {setting}"] = [slow / fast for slow, fast in pairs]
        progress(f"scoring, {name}", len(SETTINGS), len(SETTINGS))
        least = min(ratios, key=lambda peer: statistics.median(ratios[peer]))
        figures[f"scoring_speedup_{name}"] = at_least(
            statistics.median(ratios[least]),
            FASTER,
            unit="ratio",
            n=turns,
            how=f"the least of {len(ratios)}: {least}, median of alternating turns, "
            f"{_spread(ratios[least])}; peers are our restatement of the published code",
        )
        figures[f"scoring_difference_{name}"] = at_most(
            off,
            EQUAL,
            unit="nats",
            n=2 * len(SETTINGS) * len(sample.text),
            how="largest difference of a margin or a likelihood score from the published functions"
            ", given the same noise; float32 sums there, integers here",
        )
        figures[f"scoring_filter_flips_{name}"] = at_most(
            flips,
            0,
            unit="tokens",
            n=2 * len(SETTINGS) * len(sample.text),
            how="tokens that only one of the two takes for filtered",
        )
    return figures


def differences(sample: Sample, params: SamplingParams) -> tuple[float, int]:
    """Largest difference of scores from both papers' functions, and how often filters disagree."""
    exponential_TV = torch.from_numpy(
        np.exp(-noise(len(sample.text), sample.logits_TV.shape[1])).astype(np.float32)
    )
    logits_TV, served = torch.from_numpy(sample.logits_TV), sample.served(params)

    def draw(row: int) -> reference.Tensor:
        return exponential_TV[row]

    ours = score_tokens(sample.logits_TV, served, params, Draws.along(SEED, len(served)))
    likelihood_T = gm_ls(ours.margin_T, SIGMA)
    worst, flips = 0.0, 0
    peers = (
        reference.gm_ls(logits_TV, served, params, draw, SIGMA),
        reference.token_difr(logits_TV, served, params, draw),
    )
    for theirs in peers:
        for row, one in enumerate(theirs):
            if math.isinf(one.margin) or math.isinf(ours.margin_T[row]):
                flips += math.isinf(one.margin) != math.isinf(ours.margin_T[row])
                continue
            worst = max(worst, abs(one.margin - ours.margin_T[row]))
            if one.gm_ls is not None:
                raised = max(one.gm_ls, LOWEST), max(float(likelihood_T[row]), LOWEST)
                worst = max(worst, abs(raised[0] - raised[1]))
    return float(worst), flips


def noise(rows: int, vocab_size: int) -> F64Array:
    """Our noise of every token, [T, V], in nats."""
    ids_V = np.arange(vocab_size, dtype=np.int32)
    zeros_V, start_R = np.zeros(vocab_size, np.float32), np.array([0, vocab_size])
    best_T = np.zeros(1, np.float32)
    return np.stack(
        [
            sums(start_R, ids_V, zeros_V, best_T, Draws.of([SEED], [row])) / UNIT
            for row in range(rows)
        ]
    )


def _runs(sample: Sample, params: SamplingParams) -> dict[str, Callable[[], object]]:
    logits_TV = torch.from_numpy(sample.logits_TV)
    served, vocab_size = sample.served(params), sample.logits_TV.shape[1]
    draws = Draws.along(SEED, len(served))

    def ours() -> object:
        scores = score_tokens(sample.logits_TV, served, params, draws)
        return gm_ls(scores.margin_T, SIGMA)

    return {
        "ours": ours,
        "gm_ls": lambda: reference.gm_ls(
            logits_TV, served, params, reference.generator(vocab_size, 1), SIGMA
        ),
        "token_difr": lambda: reference.token_difr(
            logits_TV, served, params, reference.generator(vocab_size, 1)
        ),
    }


def _take_turns(runs: Mapping[str, Callable[[], object]], turns: int) -> dict[str, Sequence[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first pays for what is allocated once
                times[name].append(time.perf_counter() - start)
    return dict(times)


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
