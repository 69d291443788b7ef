"""How much worse a weak model is than the strong one, on the strong one's own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from tidegate.errors import ModelError
from tidegate.models.port import F32Array, Model

Text = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt and of the strong model's answer to it."""


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both models read the same answers at temperature 1; bits are per token of them.

    `perplexity_ratio` is 2**(weak_bits - strong_bits). `top1_agreement` is the share of places
    where both rank the same token first.
    """

    texts: int
    tokens: int
    weak_bits: float
    strong_bits: float
    perplexity_ratio: float
    top1_agreement: float


def compare(
    strong: Model,
    weak: Model,
    texts: Sequence[Text],
    *,
    batch: int = 32,
    progress: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Read `texts` with both models, `batch` at a time; `progress` hears of tokens read.

    Raises ModelError if there is no answer to read.
    """
    weak_nats = strong_nats = 0.0
    agreed = tokens = 0
    readable = [text for text in texts if text[1]]
    for first in range(0, len(readable), batch):
        answers = dict(enumerate(answer for _, answer in readable[first : first + batch]))
        feed = list(enumerate(prompt for prompt, _ in readable[first : first + batch]))
        place = 0
        while feed:
            strong_NV, weak_NV = strong.forward(feed), weak.forward(feed)
            targets = [answers[number][place] for number, _ in feed]
            strong_nats += _surprise(strong_NV, targets)
            weak_nats += _surprise(weak_NV, targets)
            agreed += int((strong_NV.argmax(axis=1) == weak_NV.argmax(axis=1)).sum())
            tokens += len(feed)
            progress(len(feed))
            place += 1
            for number, _ in feed:
                if place == len(answers[number]):
                    strong.drop(number)
                    weak.drop(number)
            feed = [
                (number, [answers[number][place - 1]])
                for number, _ in feed
                if place < len(answers[number])
            ]
    if not tokens:
        raise ModelError("there is no answer to compare on")
    weak_bits, strong_bits = (nats / np.log(2) / tokens for nats in (weak_nats, strong_nats))
    return Comparison(
        texts=len(readable),
        tokens=tokens,
        weak_bits=float(weak_bits),
        strong_bits=float(strong_bits),
        perplexity_ratio=float(2 ** (weak_bits - strong_bits)),
        top1_agreement=agreed / tokens,
    )


def _surprise(logits_NV: F32Array, targets: Sequence[int]) -> float:
    """Nats of the target tokens, summed."""
    shifted_NV = (logits_NV - logits_NV.max(axis=1, keepdims=True)).astype(np.float64)
    chosen_N = shifted_NV[np.arange(len(targets)), targets]
    return float((np.log(np.exp(shifted_NV).sum(axis=1)) - chosen_N).sum())
