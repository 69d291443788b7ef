"""What the exact engine loses against the same weights in fp32, on text it was not fitted to."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tidegate.bench.exact_float import FloatModel
from tidegate.bench.exact_passes import Runner, prefill
from tidegate.bench.exact_task import answers, compare, questions
from tidegate.bench.figures import Figure, at_most, report
from tidegate.models import tokenizer
from tidegate.models.cache import Progress
from tidegate.models.exact.backends import names
from tidegate.models.exact.format import read
from tidegate.models.tokenizer import FileTokenizer

F32 = NDArray[np.float32]


class Text(NamedTuple):
    """A chat's tokens; those from `first` to `end` were written by a person."""

    tokens: tuple[int, ...]
    first: int
    end: int


@dataclass(slots=True)
class Score:
    """At each place where a person's token follows: nats of that token, and the likeliest one."""

    nats: list[float] = field(default_factory=list)
    best: list[int] = field(default_factory=list)


def texts_of(prompts: Sequence[str], words: FileTokenizer, tokens: int) -> list[Text]:
    """Chats of one user's turn, until `tokens` are there that a person wrote."""
    found: list[Text] = []
    hollow = words.chat([{"role": "user", "content": ""}])
    for prompt in prompts:
        whole = words.chat([{"role": "user", "content": prompt}])
        first = _common(whole, hollow)
        end = len(whole) - _common(whole[:first:-1], hollow[::-1])
        found.append(Text(tuple(whole), first, end))
        tokens -= end - first
        if tokens <= 0:
            break
    return found


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def measure(
    name: str,
    source: Path,
    converted: Path,
    prompts: Sequence[str],
    *,
    tokens: int,
    progress: Progress,
) -> dict[str, Figure]:
    """Figures of one model, whose float weights are in `source`.

    `prompts` are not those of the calibration; `tokens` of them are read.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    words = tokenizer.load(source)
    texts, asked = texts_of(prompts, words, tokens), questions(words)
    chats = [text.tokens for text in texts]
    ends = [question.tokens for question in asked]
    peer = FloatModel(source, "float32")
    reference = score(peer.prefill(chats), texts, progress, f"{name}: fp32 reads")
    right = answers(_last(peer.prefill(ends), ends, progress, f"{name}: fp32 answers"), words)
    del peer  # it is several gigabytes
    runner = Runner(read(converted), names()[0], len(os.sched_getaffinity(0)))
    found = score(_whole(runner, chats), texts, progress, f"{name}: exact reads")
    given = answers(_last(_whole(runner, ends), ends, progress, f"{name}: exact answers"), words)
    ratio, error = perplexity_ratio(found, reference)
    agreed = sum(one == other for one, other in zip(found.best, reference.best, strict=True))
    verdict = compare(given, right, asked)
    n, told = len(found.nats), f"tokens of {len(texts)} prompts, none of the calibration's"
    return {
        f"{name}_perplexity_over_fp32": at_most(
            ratio, 1.015, unit="ratio", n=n, how=f"{told}; standard error {error:.4f}"
        ),
        f"{name}_greedy_agreement": report(
            agreed / n, unit="of tokens", n=n, how=f"likeliest token as in fp32; {told}"
        ),
        f"{name}_mmlu_standard_errors": at_most(
            verdict.standard_errors,
            1.0,
            unit="standard errors",
            n=len(asked),
            how=f"between shares of right letters: exact {verdict.share:.3f}, "
            f"fp32 {verdict.reference:.3f}",
        ),
    }


def _whole(runner: Runner, chats: Sequence[Sequence[int]]) -> Iterator[F32]:
    """logits_TV of each text in turn, by the exact engine."""
    for chat in chats:
        yield np.concatenate([piece.logits_TV for piece in runner.run([chat], prefill())])


def _last(
    logits: Iterator[F32], texts: Sequence[object], progress: Progress, stage: str
) -> Iterator[F32]:
    for done, logits_TV in enumerate(logits):
        progress(stage, done + 1, len(texts))
        yield logits_TV[-1]


def score(logits: Iterator[F32], texts: Sequence[Text], progress: Progress, stage: str) -> Score:
    """Read every text once."""
    result = Score()
    for done, (text, logits_TV) in enumerate(zip(texts, logits, strict=True)):
        targets = np.array(text.tokens[text.first : text.end])
        part_TV = logits_TV[text.first - 1 : text.end - 1]
        for start in range(0, len(part_TV), 64):
            some_TV = part_TV[start : start + 64]
            result.nats += _nats(some_TV, targets[start : start + 64])
            result.best += some_TV.argmax(axis=1).tolist()
        progress(stage, done + 1, len(texts))
    return result


def _nats(logits_TV: F32, targets_T: NDArray[np.int64]) -> list[float]:
    shifted_TV = (logits_TV - logits_TV.max(axis=1, keepdims=True)).astype(np.float64)
    chosen_T = shifted_TV[np.arange(len(targets_T)), targets_T]
    nats: list[float] = (np.log(np.exp(shifted_TV).sum(axis=1)) - chosen_T).tolist()
    return nats


def perplexity_ratio(score: Score, reference: Score) -> tuple[float, float]:
    """Perplexity over the reference's, and the standard error of that."""
    difference = np.array(score.nats) - np.array(reference.nats)
    ratio = math.exp(difference.mean())
    return ratio, ratio * float(difference.std(ddof=1)) / math.sqrt(len(difference))
