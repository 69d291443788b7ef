"""What the student reads: answers with the strong model's distributions, and the n-gram's scores.

The n-gram was counted from answers to other prompts, so it is as good here as it will be in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from student_answers import TAIL, read_part
from student_net import Targets

from tidegate.models.cache import publish
from tidegate.models.ngram import NgramModel

Array = NDArray[np.generic]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """Token id → class; the class before the last stands for all tokens that have none."""

    tokens_C: IntArray
    vocab_size: int

    @property
    def rest(self) -> int:
        return len(self.tokens_C)

    def lookup(self) -> IntArray:
        """class_V."""
        class_V = np.full(self.vocab_size, self.rest)
        class_V[self.tokens_C] = np.arange(len(self.tokens_C))
        return class_V


def ranked_tokens(parts: Sequence[Path], vocab_size: int) -> IntArray:
    """Every token, those to which the strong model gave most probability first."""
    mass_V = np.zeros(vocab_size)
    for path in parts:
        part = read_part(path)
        ids = part["top_ids"].astype(np.int64).ravel()
        mass_V += np.bincount(ids, np.exp(part["top_logp"].astype(float)).ravel(), vocab_size)
        for name, weight in (("tail_ids", 1e-3), ("prompt_ids", 1e-2)):
            ids = part[name].astype(np.int64).ravel()
            mass_V += weight * np.bincount(ids, minlength=vocab_size)
    # Ids come in order of frequency, which decides between tokens that were hardly seen.
    mass_V -= np.arange(vocab_size) * 1e-9
    return np.argsort(-mass_V, kind="stable")


@dataclass(frozen=True)
class Answer:
    """One conversation: input classes (T,), and for its last N places what to predict."""

    temperature: float
    input_T: IntArray
    classes_N: IntArray  # of the tokens that came
    target_classes_NK: NDArray[np.int16]
    target_weights_NK: NDArray[np.float16]
    starts_N: IntArray  # N + 1, into the next two
    delta_classes: NDArray[np.int16]
    deltas: NDArray[np.float16]
    rest_N: NDArray[np.float32]
    excess_N: NDArray[np.float32]  # the n-gram's score of the token less `rest`, if it has no class

    @property
    def places(self) -> int:
        return len(self.classes_N)


def read_answers(path: Path, classes: Classes, ngram: NgramModel, cache: Path) -> list[Answer]:
    """All answers of a part; the n-gram's share is computed once and kept in `cache`."""
    part = read_part(path)
    kept = cache / f"{path.parent.name}-{path.stem}.ngram"
    if not kept.exists():
        making = kept.with_suffix(".making")
        making.write_bytes(safetensors.numpy.save(_ngram_share(part, classes, ngram)))
        publish(making, kept)
    share = safetensors.numpy.load(kept.read_bytes())
    class_V = classes.lookup()
    top_p = np.exp(part["top_logp"].astype(np.float32))
    left = (1 - top_p.sum(1, keepdims=True)).clip(0)
    weights_NK = np.concatenate([top_p, np.repeat(left / TAIL, TAIL, 1)], 1)
    weights_NK /= weights_NK.sum(1, keepdims=True)
    targets_NK = class_V[
        np.concatenate([part["top_ids"], part["tail_ids"]], 1).astype(np.int64)
    ].astype(np.int16)
    answers = []
    for index, prompt, ids, place in conversations(part):
        rows = slice(place, place + len(ids))
        starts = share["starts"][place : place + len(ids) + 1].astype(np.int64)
        span = slice(int(starts[0]), int(starts[-1]))
        answers.append(
            Answer(
                temperature=round(float(part["temperatures"][index]), 3),
                input_T=class_V[np.concatenate([prompt, ids[:-1]])],
                classes_N=class_V[ids],
                target_classes_NK=targets_NK[rows],
                target_weights_NK=weights_NK[rows].astype(np.float16),
                starts_N=starts - starts[0],
                delta_classes=share["classes"][span],
                deltas=share["deltas"][span],
                rest_N=share["rest"][rows],
                excess_N=share["excess"][rows],
            )
        )
    return answers


def conversations(part: dict[str, Array]) -> Iterator[tuple[int, IntArray, IntArray, int]]:
    begin = place = 0
    for index, (before, length) in enumerate(
        zip(part["prompt_lengths"].tolist(), part["lengths"].tolist(), strict=True)
    ):
        prompt = part["prompt_ids"][begin : begin + before].astype(np.int64)
        yield index, prompt, part["ids"][place : place + length].astype(np.int64), place
        begin, place = begin + before, place + length


def _ngram_share(part: dict[str, Array], classes: Classes, ngram: NgramModel) -> dict[str, Array]:
    base_V, class_V = ngram.base_scores(), classes.lookup()
    outside = class_V == classes.rest
    starts, found, deltas, rest, excess = [0], [], [], [], []
    for number, prompt, ids, _ in conversations(part):
        feed = prompt
        for token in ids.tolist():
            scores_V = ngram.forward([(number, feed.tolist())])[0]
            feed = np.array([token])
            touched = np.flatnonzero((scores_V != base_V) & ~outside)
            found.append(class_V[touched].astype(np.int16))
            deltas.append((scores_V[touched] - base_V[touched]).astype(np.float16))
            starts.append(starts[-1] + len(touched))
            rest.append(np.log(np.exp(scores_V[outside].astype(np.float64)).sum()))
            excess.append(scores_V[token] - rest[-1] if outside[token] else 0.0)
        ngram.drop(number)
    return {
        "starts": np.array(starts, np.int64),
        "classes": np.concatenate(found),
        "deltas": np.concatenate(deltas),
        "rest": np.array(rest, np.float32),
        "excess": np.array(excess, np.float32),
    }


@dataclass(frozen=True)
class Batch:
    """Padded inputs (B, T), the flat places in them that are predicted, and their targets."""

    inputs_BT: torch.Tensor
    places_N: torch.Tensor
    targets: Targets
    classes_N: torch.Tensor  # of the tokens that came
    excess_N: torch.Tensor
    temperatures_N: torch.Tensor


def batches(
    answers: Sequence[Answer], tokens: int, rng: np.random.Generator | None
) -> Iterator[list[Answer]]:
    """Groups of answers of like length that fill at most `tokens` when padded."""
    order = np.arange(len(answers)) if rng is None else rng.permutation(len(answers))
    groups: list[list[Answer]] = []
    for first in range(0, len(order), 256):
        window = sorted((answers[i] for i in order[first : first + 256]), key=_length)
        group: list[Answer] = []
        for answer in window:
            if group and (len(group) + 1) * _length(answer) > tokens:
                groups.append(group)
                group = []
            group.append(answer)
        groups.append(group)
    for index in range(len(groups)) if rng is None else rng.permutation(len(groups)):
        yield groups[index]


def _length(answer: Answer) -> int:
    return len(answer.input_T)


GREEDY = 0.7
"""Of the weight that goes to the teacher's first choice where that is what it said."""


def _weights(answer: Answer) -> Array:
    """weights_NK: the teacher's distribution, or mostly its first choice."""
    if answer.temperature > 0:
        return answer.target_weights_NK
    weights_NK = answer.target_weights_NK.astype(np.float32) * (1 - GREEDY)
    weights_NK[:, 0] += GREEDY
    return weights_NK


def collate(group: Sequence[Answer], device: torch.device) -> Batch:
    """One batch of answers."""
    longest = max(map(_length, group))
    inputs_BT = np.zeros((len(group), longest), np.int64)
    places = []
    for row, answer in enumerate(group):
        inputs_BT[row, : _length(answer)] = answer.input_T
        end = row * longest + _length(answer)
        places.append(np.arange(end - answer.places, end))

    def joined(part: Callable[[Answer], Array], dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([part(a) for a in group])).to(device, dtype)

    counts = joined(lambda a: np.diff(a.starts_N), torch.int64)
    width = group[0].target_classes_NK.shape[1]
    rows = torch.arange(len(counts), device=device)
    temperatures_N = joined(lambda a: np.full(a.places, a.temperature), torch.float32)
    return Batch(
        torch.from_numpy(inputs_BT).to(device),
        torch.from_numpy(np.concatenate(places)).to(device),
        Targets(
            target_rows=rows.repeat_interleave(width),
            target_classes=joined(lambda a: a.target_classes_NK.ravel(), torch.int64),
            target_weights=joined(lambda a: _weights(a).ravel(), torch.float32),
            delta_rows=rows.repeat_interleave(counts),
            delta_classes=joined(lambda a: a.delta_classes, torch.int64),
            deltas=joined(lambda a: a.deltas, torch.float32),
            rest_N=joined(lambda a: a.rest_N, torch.float32),
        ),
        joined(lambda a: a.classes_N, torch.int64),
        joined(lambda a: a.excess_N, torch.float32),
        temperatures_N,
    )
